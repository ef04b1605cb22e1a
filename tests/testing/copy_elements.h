#pragma once
#include <cstdint>

#include "kernels/dtype.h"

namespace moerl::testing {

/// Writes fp32 elements as a ReadRows or a WeightSource does: in the type that is asked for.
inline void copy_elements(const float* from, int64_t count, DType dtype, void* out) {
  for (int64_t i = 0; i < count; ++i)
    if (dtype == DType::kBF16)
      static_cast<bf16*>(out)[i] = to_bf16(from[i]);
    else
      static_cast<float*>(out)[i] = from[i];
}

}  // namespace moerl::testing
