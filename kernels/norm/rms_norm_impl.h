#pragma once
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/isa.h"

namespace moerl::kernels {

/// Rows [begin, end) of rms_norm_forward; with delta, of add_rms_norm_forward (x is the residual).
struct RmsNormForwardArgs {
  DType dtype;
  int64_t dim;
  float eps;
  const float* weight;
  void* x;            ///< written only with delta
  const void* delta;  ///< or null
  void* y;
  float* rstd;  ///< or null
};

struct RmsNormBackwardArgs {
  DType dtype;
  int64_t dim;
  bool accumulate;
  const float* weight;
  const float* rstd;
  const void* dy;
  const void* x;
  void* dx;
};

template <Isa isa>
struct RmsNormCpu {
  static void forward(const RmsNormForwardArgs& args, int64_t begin, int64_t end);
  /// Writes sum_t(dy * n) of the rows, t ascending, to partial [D].
  static void backward(const RmsNormBackwardArgs& args, int64_t begin, int64_t end, float* partial);
  /// dweight[d] += sum of partials[:, d], ascending, for d in [begin, end).
  static void reduce(const float* partials, int64_t count, int64_t dim, float* dweight,
                     int64_t begin, int64_t end);
};

/// Tokens in one partial sum of dweight.
inline constexpr int64_t kRmsNormBackwardRows = 64;

/// The same on the device.
struct RmsNormCuda {
  void (*forward)(const RmsNormForwardArgs& args, int64_t rows);
  /// @param partials [rows / 64 rounded up, D], overwritten.
  void (*backward)(const RmsNormBackwardArgs& args, int64_t rows, float* partials, float* dweight);
};

}  // namespace moerl::kernels
