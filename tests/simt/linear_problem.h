#pragma once
// Products of the device beside their reference.

#include <cmath>

#include "kernels/gemm/linear_impl.h"
#include "kernels/gemm/linear_ref.h"
#include "tests/simt/on_device.h"

namespace moerl::testing {

inline kernels::ref::Matrix<double> matrix(const Tensor& x) {
  return {static_cast<size_t>(x.dim(0)), static_cast<size_t>(x.dim(1)), to_doubles(x)};
}
inline kernels::ref::Matrix<double> absolute(kernels::ref::Matrix<double> x) {
  for (double& value : x.values) value = std::fabs(value);
  return x;
}

/// Each element within what fp32 sums of `depth` terms may be off, and the rounding of its type.
inline void expect_near(const Tensor& got, const kernels::ref::Matrix<double>& want,
                        const kernels::ref::Matrix<double>& magnitude, size_t depth) {
  const std::vector<double> values = to_doubles(got);
  for (size_t i = 0; i < values.size(); ++i) {
    const double bound =
        static_cast<double>(depth + 2) * 0x1p-24 * magnitude.values[i] +
        (got.dtype() == DType::kBF16 ? 0x1p-8 : 0x1p-24) * std::fabs(want.values[i]);
    ASSERT_NEAR(values[i], want.values[i], bound) << "element " << i;
  }
}

/// y [tokens, out] = x [tokens, in] W^T, and the gradient of y.
struct LinearProblem {
  Tensor x, w, dy;
  LinearProblem(DType dtype, int64_t tokens, int64_t out, int64_t in)
      : x(random_tensor({tokens, in}, dtype, 1)),
        w(random_tensor({out, in}, dtype, 2)),
        dy(random_tensor({tokens, out}, dtype, 3)) {}
};

/// Of one group.
inline kernels::LinearCudaProduct product(const OnDevice& x, const Tensor& x_host,
                                          const OnDevice& w, const OnDevice& y,
                                          const Tensor& y_host) {
  return {.dtype = x_host.dtype(),
          .y_dtype = y_host.dtype(),
          .accumulate = false,
          .rows = x_host.dim(0),
          .depth = x_host.dim(1),
          .columns = y_host.dim(1),
          .x = x.raw(),
          .y = y.raw(),
          .weight = w.raw(),
          .groups = {}};
}

}  // namespace moerl::testing
