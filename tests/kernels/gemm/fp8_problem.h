#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/gemm/fp8_linear.h"
#include "kernels/gemm/fp8_linear_ref.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {

/// A matrix as the reference sees it. Expects zeros behind the codes of a row.
/// @param tile_rows  1 for an activation, 128 for a weight.
inline kernels::ref::Fp8Codes fp8_codes(size_t columns, size_t tile_rows, const Tensor& codes,
                                        const Tensor& scales) {
  const Tensor words = codes.to(Device::kCpu);
  const auto* bytes = static_cast<const uint8_t*>(words.raw());
  const auto rows = static_cast<size_t>(codes.dim(0)),
             pitch = static_cast<size_t>(codes.dim(1)) * 4;
  kernels::ref::Fp8Codes out{rows, columns, tile_rows, {}, to_doubles(scales.to(Device::kCpu))};
  for (size_t r = 0; r < rows; ++r) {
    out.codes.insert(out.codes.end(), bytes + r * pitch, bytes + r * pitch + columns);
    for (size_t c = columns; c < pitch; ++c)
      EXPECT_EQ(bytes[r * pitch + c], 0) << "row " << r << ", column " << c << " of " << columns;
  }
  return out;
}
inline kernels::ref::Fp8Codes fp8_codes(const kernels::Fp8Activation& x) {
  return fp8_codes(static_cast<size_t>(x.columns), 1, x.codes, x.scales);
}
inline kernels::ref::Fp8Codes fp8_codes(const kernels::PackedWeight& weight,
                                        kernels::Product product) {
  const int64_t columns =
      product == kernels::Product::kForward ? weight.in_features : weight.out_features;
  return fp8_codes(static_cast<size_t>(columns), 128, weight.image(product),
                   weight.scales(product));
}

inline kernels::PackedWeight packed_fp8(ExecContext& ctx, const Tensor& master) {
  kernels::PackedWeight weight;
  kernels::pack_weight(ctx, master.to(ctx.device()), Precision::fp8(), true, weight);
  return weight;
}

/// Random numbers whose magnitudes differ by row and by tile.
inline Tensor uneven_tensor(const Shape& shape, DType dtype, uint64_t seed) {
  Tensor x = random_tensor(shape, DType::kF32, seed);
  for (int64_t i = 0; i < x.numel(); ++i)
    x.data<float>()[i] *= std::ldexp(1.0f, static_cast<int>(i / 128 * 7 % 23) - 11);
  return tensor_of(shape, dtype, to_floats(x));
}

/// Each element within what fp32 sums may be off, and the rounding of its type.
/// @param before  what the product was added to; empty: nothing.
inline void expect_near_product(const Tensor& y, const kernels::ref::Fp8Codes& x,
                                const kernels::ref::Fp8Codes& weight,
                                const std::vector<double>& before = {}) {
  kernels::ref::Fp8Result want = kernels::ref::fp8_product(x, weight);
  const std::vector<double> got = to_doubles(y.to(Device::kCpu));
  ASSERT_EQ(got.size(), want.y.size());
  const double once = y.dtype() == DType::kBF16 ? 0x1p-8 : 0x1p-23;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!before.empty()) want.y[i] += before[i];
    ASSERT_NEAR(got[i], want.y[i],
                static_cast<double>(x.columns + 4) * 0x1p-24 * want.magnitude[i] +
                    once * std::fabs(want.y[i]))
        << "element " << i;
  }
}

}  // namespace moerl::testing
