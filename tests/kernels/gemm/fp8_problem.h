#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/gemm/fp8_linear.h"
#include "kernels/gemm/fp8_linear_ref.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {

/// The bytes of the words, in memory order.
inline std::vector<uint8_t> codes_of(const Tensor& words) {
  const auto* bytes = static_cast<const uint8_t*>(words.raw());
  return {bytes, bytes + words.bytes()};
}

/// A matrix as the reference sees it. @param tile_rows  1 for an activation, 128 for a weight.
inline kernels::ref::Fp8Codes fp8_codes(const kernels::Fp8Matrix& x, size_t tile_rows) {
  return {static_cast<size_t>(x.rows), static_cast<size_t>(x.columns), tile_rows, codes_of(x.codes),
          to_doubles(x.scales)};
}

/// Each element within what fp32 sums may be off, and the rounding of its type.
inline void expect_near_product(const Tensor& y, const kernels::ref::Fp8Codes& x,
                                const kernels::ref::Fp8Codes& weight) {
  const kernels::ref::Fp8Result want = kernels::ref::fp8_product(x, weight);
  const std::vector<double> got = to_doubles(y);
  ASSERT_EQ(got.size(), want.y.size());
  const double once = y.dtype() == DType::kBF16 ? 0x1p-8 : 0x1p-24;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want.y[i],
                static_cast<double>(x.columns + 4) * 0x1p-24 * want.magnitude[i] +
                    once * std::fabs(want.y[i]))
        << "element " << i;
}

}  // namespace moerl::testing
