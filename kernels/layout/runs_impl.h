#pragma once
#include "kernels/dtype.h"
#include "kernels/layout/runs.h"

namespace moerl::kernels {

/// All of the extent, on the device.
struct RunsCuda {
  void (*copy)(DType dtype, const RunExtent& extent, const void* src, const HeadRuns& from,
               void* dst, const HeadRuns& to);
  void (*sum)(DType dtype, const RunExtent& extent, const void* src, const HeadRuns& from,
              void* dst);
};

}  // namespace moerl::kernels
