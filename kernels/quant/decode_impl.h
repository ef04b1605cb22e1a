#pragma once
#include "kernels/quant/decode.h"

namespace moerl::kernels {

template <Isa isa>
struct DecodeCpu {
  static void decode(StoredFloat format, const std::byte* data, int64_t count, float scale,
                     DType dtype, void* out);
};

}  // namespace moerl::kernels
