#pragma once
// The specification of linear.h, executable: the formulas in double, and the exact order of the
// fp32 operations. For tests.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/dtype.h"

namespace moerl::kernels::ref {

/// A row-major matrix.
template <typename T>
struct Matrix {
  size_t rows = 0, columns = 0;
  std::vector<T> values;

  T& operator()(size_t i, size_t j) { return values[i * columns + j]; }
  const T& operator()(size_t i, size_t j) const { return values[i * columns + j]; }
};

template <typename T>
Matrix<T> transpose(const Matrix<T>& a) {
  Matrix<T> t{a.columns, a.rows, std::vector<T>(a.values.size())};
  for (size_t i = 0; i < a.rows; ++i)
    for (size_t j = 0; j < a.columns; ++j) t(j, i) = a(i, j);
  return t;
}

/// a [M, K] b [K, N].
inline Matrix<double> product(const Matrix<double>& a, const Matrix<double>& b) {
  Matrix<double> c{a.rows, b.columns, std::vector<double>(a.rows * b.columns)};
  for (size_t i = 0; i < a.rows; ++i)
    for (size_t j = 0; j < b.columns; ++j)
      for (size_t k = 0; k < a.columns; ++k) c(i, j) += a(i, k) * b(k, j);
  return c;
}

/// y[t, n] = sum_k x[t, k] w[n, k].
inline Matrix<double> linear_forward(const Matrix<double>& x, const Matrix<double>& w) {
  return product(x, transpose(w));
}
/// dL/dx[t, k] = sum_n dL/dy[t, n] dy[t, n]/dx[t, k].
inline Matrix<double> linear_dgrad(const Matrix<double>& dy, const Matrix<double>& w) {
  return product(dy, w);
}
/// dL/dw[n, k] = sum_t dL/dy[t, n] dy[t, n]/dw[n, k].
inline Matrix<double> linear_wgrad(const Matrix<double>& dy, const Matrix<double>& x) {
  return product(transpose(dy), x);
}

/// Denormals become zeros of their sign.
inline float flush(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}
inline float fma_flushed(float a, float b, float c) {
  return flush(std::fma(flush(a), flush(b), flush(c)));
}
inline float add_flushed(float a, float b) { return flush(flush(a) + flush(b)); }

/// c += a[0] b[0] + a[1] b[1] + ... in the order of the specification: fp32 one chain, bf16 (whose
/// values a and b hold) two chains to a block of 32.
inline float add_products(DType dtype, const std::vector<float>& a, const std::vector<float>& b,
                          float c) {
  if (dtype == DType::kF32) {
    for (size_t k = 0; k < a.size(); ++k) c = fma_flushed(a[k], b[k], c);
    return c;
  }
  for (size_t block = 0; block < a.size(); block += 32) {
    float chain[2] = {0.0f, 0.0f};
    for (size_t k = block; k < block + 32; ++k) {
      const bool inside = k < a.size();
      float& sum = chain[k % 2];
      sum = fma_flushed(inside ? a[k] : 0.0f, inside ? b[k] : 0.0f, sum);
    }
    c = add_flushed(c, add_flushed(chain[0], chain[1]));
  }
  return c;
}

/// c += a [M, K] b [K, N], each element in the order of add_products.
inline void ordered_product(DType dtype, const Matrix<float>& a, const Matrix<float>& b,
                            Matrix<float>& c) {
  const Matrix<float> b_rows = transpose(b);
  const auto row = [](const Matrix<float>& m, size_t i) {
    const auto begin = m.values.begin() + static_cast<std::ptrdiff_t>(i * m.columns);
    return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(m.columns));
  };
  for (size_t i = 0; i < a.rows; ++i)
    for (size_t j = 0; j < b.columns; ++j)
      c(i, j) = add_products(dtype, row(a, i), row(b_rows, j), c(i, j));
}

}  // namespace moerl::kernels::ref
