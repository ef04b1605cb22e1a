#pragma once
#include "kernels/gemm/linear.h"
#include "kernels/gemm/linear_impl.h"

namespace moerl::kernels {

/// The groups as kernels on kCuda are given them, without the weights. One group: none.
LinearGroups groups_on_device(ExecContext& ctx, const GroupOffsets& offsets);

}  // namespace moerl::kernels
