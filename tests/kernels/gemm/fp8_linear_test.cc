#include "kernels/gemm/fp8_linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/gemm/fp8_problem.h"
#include "tests/testing/same_bits.h"

namespace moerl::kernels {
namespace {

using testing::codes_of;
using testing::expect_near_product;
using testing::fp8_codes;
using testing::random_tensor;
using testing::to_doubles;

TEST(E4m3Test, CodesAndValuesAreThoseOfTheDefinition) {
  for (int code = 0; code < 256; ++code) {
    const double value = ref::small_float(static_cast<uint32_t>(code), 4, 3, false);
    const float got = from_e4m3(static_cast<uint8_t>(code));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(got)) << code;
      EXPECT_EQ(to_e4m3(got) & 0x7F, 0x7F) << code;
    } else {
      EXPECT_EQ(got, static_cast<float>(value)) << code;
      EXPECT_EQ(to_e4m3(got), code);
    }
  }
  for (float value : testing::random_values(2000, 1, -460, 460))
    for (float x : {value, value / 1000, value / 100000})
      if (std::fabs(x) <= 448) {
        EXPECT_EQ(to_e4m3(x), ref::nearest_e4m3(x)) << x;
      }
}

struct Case {
  int64_t rows, columns;
  DType dtype;
};
class Fp8QuantizeTest : public ::testing::TestWithParam<Case> {
 protected:
  Tensor input() const {
    // Magnitudes differ by row and by tile.
    Tensor x = random_tensor({GetParam().rows, GetParam().columns}, DType::kF32, 1);
    for (int64_t i = 0; i < x.numel(); ++i)
      x.data<float>()[i] *= std::ldexp(1.0f, static_cast<int>(i / 128 * 7 % 23) - 11);
    return testing::tensor_of(x.shape(), GetParam().dtype, testing::to_floats(x));
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, Fp8QuantizeTest,
                         ::testing::Values(Case{1, 16, DType::kF32}, Case{3, 144, DType::kBF16},
                                           Case{130, 272, DType::kF32},
                                           Case{257, 128, DType::kBF16}, Case{0, 32, DType::kF32}));

TEST_P(Fp8QuantizeTest, CodesAndScalesAreThoseOfTheReference) {
  ExecContext ctx(2);
  const Tensor x = input();
  for (bool is_weight : {false, true}) {
    const Fp8Matrix got = is_weight ? quantize_fp8_weight(ctx, x) : quantize_fp8_activation(ctx, x);
    const ref::Fp8Codes want =
        ref::quantize_fp8(to_doubles(x), static_cast<size_t>(x.dim(0)),
                          static_cast<size_t>(x.dim(1)), is_weight ? 128 : 1);
    EXPECT_EQ(codes_of(got.codes), want.codes);
    EXPECT_EQ(to_doubles(got.scales), want.scales);
  }
}

TEST_P(Fp8QuantizeTest, BitsAreTheSameEverywhere) {
  const Tensor x = input();
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    const Fp8Matrix a = quantize_fp8_activation(ctx, x), w = quantize_fp8_weight(ctx, x);
    return std::vector<Tensor>{a.codes, a.scales, w.codes, w.scales};
  }));
}

TEST(Fp8QuantizeEdgeTest, ZerosStayAndANanOrInfinitySpoilsItsTile) {
  ExecContext ctx(1);
  Tensor x = ctx.zeros({4, 256}, DType::kF32);
  for (int64_t i = 0; i < 256; ++i) x.data<float>()[i] = 1;
  x.data<float>()[256 + 130] = std::numeric_limits<float>::quiet_NaN();
  x.data<float>()[512 + 3] = -std::numeric_limits<float>::infinity();
  x.data<float>()[768 + 5] = 1e-35f;
  const Fp8Matrix q = quantize_fp8_activation(ctx, x);
  const std::vector<uint8_t> codes = codes_of(q.codes);
  const std::vector<float> scales = testing::to_floats(q.scales);
  EXPECT_EQ(scales[0], 1.0f / 448);
  EXPECT_EQ(from_e4m3(codes[7]), 448);
  EXPECT_EQ(scales[2], 1);
  EXPECT_EQ(codes[256], 0);
  EXPECT_TRUE(std::isnan(scales[3]));
  EXPECT_TRUE(std::isnan(from_e4m3(codes[512 + 3])));
  EXPECT_EQ(codes[768 + 5], 0);  // counts as zero
}

struct ProductCase {
  int64_t tokens, out, in;
};
class Fp8LinearTest : public ::testing::TestWithParam<ProductCase> {
 protected:
  Fp8Matrix x(ExecContext& ctx) const {
    return quantize_fp8_activation(
        ctx, random_tensor({GetParam().tokens, GetParam().in}, DType::kBF16, 1));
  }
  Fp8Matrix weight(ExecContext& ctx) const {
    return quantize_fp8_weight(ctx, random_tensor({GetParam().out, GetParam().in}, DType::kF32, 2));
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, Fp8LinearTest,
                         ::testing::Values(ProductCase{1, 1, 16}, ProductCase{5, 130, 272},
                                           ProductCase{19, 128, 128}, ProductCase{0, 9, 32},
                                           ProductCase{2, 300, 400}));

TEST_P(Fp8LinearTest, EqualsTheReference) {
  ExecContext ctx(2);
  const Fp8Matrix a = x(ctx), w = weight(ctx);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    Tensor y = ctx.empty({a.rows, w.rows}, dtype);
    fp8_linear_forward(ctx, a, w, y);
    expect_near_product(y, fp8_codes(a, 1), fp8_codes(w, 128));
  }
}

TEST_P(Fp8LinearTest, BitsAreTheSameEverywhere) {
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    const Fp8Matrix a = x(ctx), w = weight(ctx);
    Tensor y = ctx.empty({a.rows, w.rows}, DType::kF32);
    fp8_linear_forward(ctx, a, w, y);
    return std::vector<Tensor>{y};
  }));
}

TEST_P(Fp8LinearTest, ARowAloneHasTheBitsItHasInABatch) {
  ExecContext ctx(2);
  const Tensor input = random_tensor({GetParam().tokens, GetParam().in}, DType::kBF16, 1);
  const Fp8Matrix w = weight(ctx);
  Tensor y = ctx.empty({GetParam().tokens, w.rows}, DType::kF32);
  fp8_linear_forward(ctx, quantize_fp8_activation(ctx, input), w, y);
  for (int64_t t = 0; t < GetParam().tokens; ++t) {
    Tensor one = ctx.empty({1, w.rows}, DType::kF32);
    fp8_linear_forward(ctx, quantize_fp8_activation(ctx, input.rows(t, t + 1).clone()), w, one);
    EXPECT_TRUE(testing::same_bits(one, y.rows(t, t + 1))) << "row " << t;
  }
}

TEST(Fp8LinearArgumentTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  EXPECT_INVALID_ARGUMENT(quantize_fp8_activation(ctx, ctx.zeros({2, 24}, DType::kF32)),
                          "x is [2, 24], expected a multiple of 16 columns");
  EXPECT_INVALID_ARGUMENT(quantize_fp8_weight(ctx, ctx.zeros({2, 16}, DType::kI32)),
                          "weight is i32, expected f32 or bf16");
  const Fp8Matrix x = quantize_fp8_activation(ctx, ctx.zeros({2, 32}, DType::kF32));
  const Fp8Matrix w = quantize_fp8_weight(ctx, ctx.zeros({130, 48}, DType::kF32));
  const Fp8Matrix fits = quantize_fp8_weight(ctx, ctx.zeros({130, 32}, DType::kF32));
  Tensor y = ctx.zeros({2, 130}, DType::kF32), small = ctx.zeros({2, 129}, DType::kF32);
  EXPECT_INVALID_ARGUMENT(fp8_linear_forward(ctx, x, w, y),
                          "x has 32 columns, expected the weight's 48");
  EXPECT_INVALID_ARGUMENT(fp8_linear_forward(ctx, x, fits, small),
                          "y is [2, 129], expected [2, 130]");
  EXPECT_INVALID_ARGUMENT(
      fp8_linear_forward(ctx, x, quantize_fp8_activation(ctx, ctx.zeros({130, 32}, DType::kF32)),
                         y),
      "its scales is [130, 1], expected [2, 1]");
}

}  // namespace
}  // namespace moerl::kernels
