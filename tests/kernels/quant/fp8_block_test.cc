#include "kernels/quant/fp8_block.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "common/rng.h"
#include "kernels/quant/fp8_block_ref.h"
#include "tests/testing/isas.h"

namespace moerl::kernels {
namespace {

struct Quantized {
  std::vector<std::byte> codes;
  std::vector<float> scales;
  friend bool operator==(const Quantized&, const Quantized&) = default;
};

class Fp8BlockTest : public ::testing::TestWithParam<Isa> {
 protected:
  Quantized quantize(const Tensor& weight) {
    Quantized out{std::vector<std::byte>(static_cast<size_t>(weight.numel())),
                  std::vector<float>(static_cast<size_t>(fp8_scale_shape(weight.shape()).numel()))};
    quantize_fp8(ctx, weight, out.codes, out.scales);
    return out;
  }
  Tensor dequantize(const Quantized& quantized, const Shape& shape) {
    Tensor weight = Tensor::empty(shape, DType::kF32);
    ctx.pool().parallel_for(1, [&](int64_t) {
      dequantize_fp8(GetParam(), shape, quantized.codes, std::as_bytes(std::span(quantized.scales)),
                     0, weight.numel(), DType::kF32, weight.data<float>());
    });
    return weight;
  }
  Tensor random_weight(const Shape& shape, uint64_t seed, double deviation = 0.02) {
    Tensor weight = Tensor::empty(shape, DType::kF32);
    Rng rng(seed);
    for (int64_t i = 0; i < weight.numel(); ++i)
      weight.data<float>()[i] = static_cast<float>(deviation * rng.normal());
    return weight;
  }
  ExecContext ctx{2, GetParam()};
};

TEST_P(Fp8BlockTest, DequantisesAsTheReference) {
  const Shape shape{131, 257};
  Quantized q{std::vector<std::byte>(131 * 257), {0.5f, 1e-3f, 3.7f, 1e-9f, 2.25f, 100}};
  std::vector<uint8_t> codes;
  for (size_t i = 0; i < q.codes.size(); ++i) {
    codes.push_back(static_cast<uint8_t>(i * 37 % 256));
    q.codes[i] = static_cast<std::byte>(codes.back());
  }
  const std::vector<double> expected =
      ref::dequantize_fp8(codes, {q.scales.begin(), q.scales.end()}, 131, 257);
  const Tensor got = dequantize(q, shape);
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]))
      ASSERT_TRUE(std::isnan(got.data<float>()[i])) << i;
    else
      ASSERT_EQ(got.data<float>()[i], static_cast<float>(expected[i])) << i;
  }
}

TEST_P(Fp8BlockTest, AnyRangeOfElementsIsThatOfTheWhole) {
  const Shape shape{260, 140};
  const Quantized q = quantize(random_weight(shape, 8));
  const Tensor whole = dequantize(q, shape);
  for (const auto& [begin, end] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 1},
                                                {0, 0},
                                                {139, 141},
                                                {127, 129},
                                                {127 * 140 + 130, 129 * 140 + 3},
                                                {5 * 140, 133 * 140},
                                                {36399, 36400},
                                                {36400, 36400},
                                                {17, 36381}}) {
    std::vector<float> part(static_cast<size_t>(end - begin) + 1, -1);
    dequantize_fp8(GetParam(), shape, q.codes, std::as_bytes(std::span(q.scales)), begin, end,
                   DType::kF32, part.data());
    EXPECT_TRUE(std::equal(part.begin(), part.end() - 1, whole.data<float>() + begin)) << begin;
    EXPECT_EQ(part.back(), -1) << "an element behind the range was written";
  }
}

TEST_P(Fp8BlockTest, QuantisesToTheNearestCode) {
  const Shape shape{130, 131};
  const Tensor weight = random_weight(shape, 3);
  const Quantized q = quantize(weight);
  for (int64_t i = 0; i < weight.numel(); ++i) {
    const int64_t r = i / 131, c = i % 131;
    const float scale = q.scales[static_cast<size_t>(r / 128 * 2 + c / 128)];
    const float ratio = weight.data<float>()[i] / scale;
    ASSERT_EQ(static_cast<int>(q.codes[static_cast<size_t>(i)]), ref::nearest_e4m3(ratio)) << i;
  }
}

TEST_P(Fp8BlockTest, ScaleIsTheLargestOver448) {
  const Shape shape{130, 131};
  const Tensor weight = random_weight(shape, 4);
  const Quantized q = quantize(weight);
  std::vector<float> largest(4, 0);
  for (int64_t i = 0; i < weight.numel(); ++i) {
    float& block = largest[static_cast<size_t>(i / 131 / 128 * 2 + i % 131 / 128)];
    block = std::max(block, std::fabs(weight.data<float>()[i]));
  }
  for (size_t b = 0; b < 4; ++b) EXPECT_NEAR(q.scales[b] * 448 / largest[b], 1, 2.5e-7) << b;
}

TEST_P(Fp8BlockTest, WhatWasDequantisedIsQuantisedToTheSameBits) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Shape shape{seed % 2 ? 9 : 128, seed % 3 ? 128 : 129};
    Tensor weight = random_weight(shape, seed, std::exp(0.3 * static_cast<double>(seed % 50) - 8));
    if (seed % 4 == 0)  // a lone value leaves the scale the most freedom
      for (int64_t i = 1; i < weight.numel(); ++i) weight.data<float>()[i] = 0;
    const Quantized first = quantize(weight);
    ASSERT_EQ(quantize(dequantize(first, shape)), first) << seed;
  }
}

TEST_P(Fp8BlockTest, PowerOfTwoScalesAreKept) {
  const Shape shape{128, 128};
  Tensor weight = random_weight(shape, 5);
  Quantized q = quantize(weight);
  q.scales[0] = 0x1p-12f;
  q.codes[7] = std::byte{0x77};  // 224 < 240 < 448: the power of two is not the largest / 448
  for (std::byte& code : q.codes)
    if ((code & std::byte{0x7F}) > std::byte{0x77}) code = std::byte{0x77};
  EXPECT_EQ(quantize(dequantize(q, shape)), q);
}

TEST_P(Fp8BlockTest, EdgesOfTheRange) {
  const Shape shape{2, 3};
  const float tiny = std::numeric_limits<float>::denorm_min();
  const float huge = std::numeric_limits<float>::max();
  const auto there_and_back = [&](const std::vector<float>& values) {
    const Quantized q = quantize(Tensor::from(shape, values));
    const Tensor back = dequantize(q, shape);
    EXPECT_EQ(quantize(back), q);
    return std::vector<float>(back.data<float>(), back.data<float>() + 6);
  };
  EXPECT_EQ(there_and_back({0, 0, 0, 0, 0, 0}), std::vector<float>(6, 0));
  EXPECT_EQ(there_and_back({tiny, 0, 0, 0, 0, 0}), std::vector<float>(6, 0));
  EXPECT_EQ(there_and_back({448, -448, 1, 0.001953125f, 0, 14}),
            (std::vector<float>{448, -448, 1, 0.001953125f, 0, 14}));
  EXPECT_NEAR(there_and_back({huge, -huge, 0, 0, 0, 0})[1] / huge, -1, 1e-6);
  EXPECT_NEAR(there_and_back({0x1p-125f, 0, 0, 0, 0, 0})[0] / 0x1p-125f, 1, 0.07);
  EXPECT_TRUE(quantize(Tensor::empty({0, 5}, DType::kF32)).codes.empty());
}

TEST_P(Fp8BlockTest, RefusesWhatItCannotQuantise) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    Tensor weight = Tensor::zeros({2, 2}, DType::kF32);
    weight.data<float>()[3] = bad;
    EXPECT_THROW(quantize(weight), std::invalid_argument);
  }
  Tensor weight = Tensor::zeros({2, 2}, DType::kF32);
  std::vector<std::byte> codes(4);
  std::vector<float> scales(1);
  EXPECT_THROW(quantize_fp8(ctx, weight, std::span(codes).first(3), scales), std::invalid_argument);
  EXPECT_THROW(quantize_fp8(ctx, weight, codes, std::span(scales).first(0)), std::invalid_argument);
  const auto dequantize_range = [&](size_t num_codes, size_t num_scales, int64_t end) {
    dequantize_fp8(GetParam(), {2, 2}, std::span(codes).first(num_codes),
                   std::as_bytes(std::span(scales).first(num_scales)), 0, end, DType::kF32,
                   weight.data<float>());
  };
  dequantize_range(4, 1, 4);
  EXPECT_THROW(dequantize_range(3, 1, 3), std::invalid_argument);
  EXPECT_THROW(dequantize_range(4, 0, 4), std::invalid_argument);
  EXPECT_THROW(dequantize_range(4, 1, 5), std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Isas, Fp8BlockTest, ::testing::ValuesIn(testing::available_isas()),
                         testing::IsaName());

}  // namespace
}  // namespace moerl::kernels
