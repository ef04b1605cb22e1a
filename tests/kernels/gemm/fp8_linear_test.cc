#include "kernels/gemm/fp8_linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/gemm/fp8_problem.h"
#include "tests/testing/same_bits.h"

namespace moerl::kernels {
namespace {

using testing::expect_near_product;
using testing::fp8_codes;
using testing::packed_fp8;
using testing::random_tensor;
using testing::same_bits;
using testing::to_doubles;
using testing::uneven_tensor;

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

class Fp8QuantizeTest : public ::testing::TestWithParam<std::array<int64_t, 2>> {
 protected:
  Shape shape() const { return {GetParam()[0], GetParam()[1]}; }
  ref::Fp8Codes expected(const Tensor& x, size_t tile_rows) const {
    return ref::quantize_fp8(to_doubles(x), static_cast<size_t>(x.dim(0)),
                             static_cast<size_t>(x.dim(1)), tile_rows);
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, Fp8QuantizeTest,
                         ::testing::ValuesIn(std::vector<std::array<int64_t, 2>>{
                             {1, 16}, {3, 145}, {130, 272}, {257, 128}, {0, 32}, {141, 1}}));

TEST_P(Fp8QuantizeTest, CodesAndScalesAreThoseOfTheReference) {
  ExecContext ctx(2);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = uneven_tensor(shape(), dtype, 1);
    const ref::Fp8Codes got = fp8_codes(quantize_fp8_activation(ctx, x)), want = expected(x, 1);
    EXPECT_EQ(got.codes, want.codes);
    EXPECT_EQ(got.scales, want.scales);
  }
}

TEST_P(Fp8QuantizeTest, ImagesOfAWeightAreThoseOfTheReferenceAndItsTranspose) {
  ExecContext ctx(2);
  const Tensor master = uneven_tensor(shape(), DType::kF32, 1);
  const auto rows = static_cast<size_t>(master.dim(0)),
             columns = static_cast<size_t>(master.dim(1));
  const PackedWeight weight = packed_fp8(ctx, master);
  const ref::Fp8Codes want = expected(master, 128);
  const ref::Fp8Codes forward = fp8_codes(weight, Product::kForward);
  EXPECT_EQ(forward.codes, want.codes);
  EXPECT_EQ(forward.scales, want.scales);
  const ref::Fp8Codes dgrad = fp8_codes(weight, Product::kDgrad);
  ASSERT_EQ(dgrad.codes.size(), rows * columns);
  for (size_t r = 0; r < rows; ++r)
    for (size_t c = 0; c < columns; ++c) {
      ASSERT_EQ(dgrad.codes[c * rows + r], want.codes[r * columns + c]);
      ASSERT_EQ(dgrad.scale(c, r / 128), want.scale(r, c / 128));
    }
}

TEST_P(Fp8QuantizeTest, BitsAreTheSameEverywhere) {
  const Tensor x = uneven_tensor(shape(), DType::kF32, 1);
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    const Fp8Activation a = quantize_fp8_activation(ctx, x);
    const PackedWeight w = packed_fp8(ctx, x);
    return std::vector<Tensor>{a.codes,          a.scales, w.forward,
                               w.forward_scales, w.dgrad,  w.dgrad_scales};
  }));
}

TEST(Fp8QuantizeEdgeTest, ZerosStayAndANanOrInfinitySpoilsItsTile) {
  ExecContext ctx(1);
  Tensor x = ctx.zeros({4, 256}, DType::kF32);
  for (int64_t i = 0; i < 256; ++i) x.data<float>()[i] = 1;
  x.data<float>()[256 + 130] = std::numeric_limits<float>::quiet_NaN();
  x.data<float>()[512 + 3] = -std::numeric_limits<float>::infinity();
  x.data<float>()[768 + 5] = 1e-35f;
  const ref::Fp8Codes q = fp8_codes(quantize_fp8_activation(ctx, x));
  EXPECT_EQ(q.scales[0], 1.0f / 448);
  EXPECT_EQ(q.code(0, 7), 448);
  EXPECT_EQ(q.scales[2], 1);
  EXPECT_EQ(q.codes[256], 0);
  EXPECT_TRUE(std::isnan(q.scales[3]));
  EXPECT_TRUE(std::isnan(q.code(2, 3)));
  EXPECT_EQ(q.code(3, 5), 0);  // counts as zero
}

TEST(Fp8PackTest, APackedAgainImageStaysWhereItIs) {
  ExecContext ctx(1);
  PackedWeight weight = packed_fp8(ctx, random_tensor({20, 40}, DType::kF32, 1));
  const void* forward = weight.forward.raw();
  const void* scales = weight.dgrad_scales.raw();
  const Tensor other = random_tensor({20, 40}, DType::kF32, 2);
  pack_weight(ctx, other, Precision::fp8(), true, weight);
  EXPECT_EQ(weight.forward.raw(), forward);
  EXPECT_EQ(weight.dgrad_scales.raw(), scales);
  EXPECT_TRUE(same_bits(weight.forward, packed_fp8(ctx, other).forward));
}

TEST(Fp8PackTest, RowsThatAreReadGiveTheImageOfTheMaster) {
  ExecContext ctx(2);
  const Tensor master = random_tensor({150, 37}, DType::kF32, 1);
  PackedWeight weight;
  pack_weight(
      ctx, master.shape(),
      [&](int64_t begin, int64_t end, DType dtype, void* out) {
        ASSERT_EQ(dtype, DType::kF32);
        std::copy_n(master.data<float>() + begin * 37, (end - begin) * 37,
                    static_cast<float*>(out));
      },
      Precision::fp8(), weight);
  const PackedWeight expected = packed_fp8(ctx, master);
  EXPECT_TRUE(same_bits(weight.forward, expected.forward));
  EXPECT_TRUE(same_bits(weight.forward_scales, expected.forward_scales));
  EXPECT_FALSE(weight.dgrad.defined());
}

struct ProductCase {
  int64_t tokens, out, in;
};
class Fp8LinearTest : public ::testing::TestWithParam<ProductCase> {
 protected:
  Tensor x() const { return random_tensor({GetParam().tokens, GetParam().in}, DType::kBF16, 1); }
  Tensor dy() const { return random_tensor({GetParam().tokens, GetParam().out}, DType::kBF16, 3); }
  PackedWeight weight(ExecContext& ctx) const {
    return packed_fp8(ctx, random_tensor({GetParam().out, GetParam().in}, DType::kF32, 2));
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, Fp8LinearTest,
                         ::testing::Values(ProductCase{1, 1, 16}, ProductCase{5, 130, 273},
                                           ProductCase{19, 128, 128}, ProductCase{0, 9, 32},
                                           ProductCase{2, 300, 401}, ProductCase{3, 5, 1}));

TEST_P(Fp8LinearTest, ForwardAndDgradEqualTheReference) {
  ExecContext ctx(2);
  const PackedWeight w = weight(ctx);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    Tensor y = ctx.empty({GetParam().tokens, GetParam().out}, dtype);
    linear_forward(ctx, x(), w, y);
    expect_near_product(y, fp8_codes(quantize_fp8_activation(ctx, x())),
                        fp8_codes(w, Product::kForward));
    Tensor dx = ctx.empty({GetParam().tokens, GetParam().in}, dtype);
    linear_dgrad(ctx, dy(), w, dx);
    const ref::Fp8Codes dy_codes = fp8_codes(quantize_fp8_activation(ctx, dy()));
    expect_near_product(dx, dy_codes, fp8_codes(w, Product::kDgrad));

    Tensor sum = random_tensor(dx.shape(), dtype, 4);
    const std::vector<double> before = to_doubles(sum);
    linear_dgrad(ctx, dy(), w, sum, Write::kAccumulate);
    expect_near_product(sum, dy_codes, fp8_codes(w, Product::kDgrad), before);
  }
}

TEST_P(Fp8LinearTest, BitsAreTheSameEverywhere) {
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    const PackedWeight w = weight(ctx);
    Tensor y = ctx.empty({GetParam().tokens, GetParam().out}, DType::kF32);
    Tensor dx = ctx.empty({GetParam().tokens, GetParam().in}, DType::kF32);
    linear_forward(ctx, x(), w, y);
    linear_dgrad(ctx, dy(), w, dx);
    return std::vector<Tensor>{y, dx};
  }));
}

TEST_P(Fp8LinearTest, ARowAloneHasTheBitsItHasInABatch) {
  ExecContext ctx(2);
  const PackedWeight w = weight(ctx);
  Tensor y = ctx.empty({GetParam().tokens, GetParam().out}, DType::kF32);
  linear_forward(ctx, x(), w, y);
  for (int64_t t = 0; t < GetParam().tokens; ++t) {
    Tensor one = ctx.empty({1, GetParam().out}, DType::kF32);
    linear_forward(ctx, x().rows(t, t + 1).clone(), w, one);
    EXPECT_TRUE(same_bits(one, y.rows(t, t + 1))) << "row " << t;
  }
}

TEST_P(Fp8LinearTest, RowsOfAGroupMeetItsWeight) {
  ExecContext ctx(2);
  const int64_t tokens = GetParam().tokens;
  std::vector<PackedWeight> weights;
  for (uint64_t seed : {5, 6, 7})
    weights.push_back(
        packed_fp8(ctx, random_tensor({GetParam().out, GetParam().in}, DType::kF32, seed)));
  const WeightList list({&weights[0], &weights[1], &weights[2]});
  const std::vector<int64_t> offsets = {0, tokens / 2, tokens / 2, tokens};
  Tensor y = ctx.empty({tokens, GetParam().out}, DType::kBF16);
  Tensor dx = ctx.empty({tokens, GetParam().in}, DType::kBF16);
  grouped_linear_forward(ctx, x(), offsets, list, y);
  grouped_linear_dgrad(ctx, dy(), offsets, list, dx);
  for (size_t g = 0; g < 3; ++g) {
    const int64_t begin = offsets[g], end = offsets[g + 1];
    Tensor alone = ctx.empty({end - begin, GetParam().out}, DType::kBF16);
    linear_forward(ctx, x().rows(begin, end), weights[g], alone);
    EXPECT_TRUE(same_bits(alone, y.rows(begin, end))) << "group " << g;
    Tensor dx_alone = ctx.empty({end - begin, GetParam().in}, DType::kBF16);
    linear_dgrad(ctx, dy().rows(begin, end), weights[g], dx_alone);
    EXPECT_TRUE(same_bits(dx_alone, dx.rows(begin, end))) << "group " << g;
  }
}

TEST(Fp8LinearArgumentTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  EXPECT_INVALID_ARGUMENT(quantize_fp8_activation(ctx, ctx.zeros({2, 16}, DType::kI32)),
                          "x is i32, expected f32 or bf16");
  PackedWeight weight;
  EXPECT_INVALID_ARGUMENT(
      pack_weight(ctx, ctx.zeros({130, 32}, DType::kBF16), Precision::fp8(), true, weight),
      "master is bf16, expected f32");
  pack_weight(ctx, ctx.zeros({130, 32}, DType::kF32), Precision::fp8(), false, weight);
  Tensor y = ctx.zeros({2, 130}, DType::kF32), dx = ctx.zeros({2, 32}, DType::kF32);
  EXPECT_INVALID_ARGUMENT(linear_forward(ctx, ctx.zeros({2, 32}, DType::kF32), weight, y),
                          "x is f32, expected bf16");
  EXPECT_INVALID_ARGUMENT(linear_dgrad(ctx, ctx.zeros({2, 130}, DType::kBF16), weight, dx),
                          "packed without its dgrad image");
  PackedWeight plain;
  pack_weight(ctx, ctx.zeros({130, 32}, DType::kF32), DType::kBF16, false, plain);
  EXPECT_INVALID_ARGUMENT(
      grouped_linear_forward(ctx, ctx.zeros({2, 32}, DType::kBF16), std::vector<int64_t>{0, 1, 2},
                             WeightList({&weight, &plain}), y),
      "a weight is bf16 [130, 32], expected the shape of the first, fp8 [130, 32]");
}

}  // namespace
}  // namespace moerl::kernels
