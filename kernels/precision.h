#pragma once
#include "kernels/dtype.h"

namespace moerl {

/// What a model computes in: activations are of `dtype`, and so are weights; or, where is_fp8,
/// products are of E4M3 codes with scales (gemm/fp8_linear.h).
struct Precision {
  constexpr Precision(DType type, bool fp8 = false) : dtype(type), is_fp8(fp8) {}  // NOLINT
  static constexpr Precision fp8() { return {DType::kBF16, true}; }

  DType dtype;
  bool is_fp8;

  constexpr const char* name() const { return is_fp8 ? "fp8" : dtype_name(dtype); }
  friend bool operator==(const Precision&, const Precision&) = default;
};

}  // namespace moerl
