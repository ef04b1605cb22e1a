#include "kernels/norm/rms_norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "kernels/norm/rms_norm_ref.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::to_doubles;
using testing::to_floats;

constexpr float kEps = 1e-6f;

struct Inputs {
  Tensor x, dy, weight;
};
Inputs make_inputs(int64_t rows, int64_t dim, DType dtype) {
  return {random_tensor({rows, dim}, dtype, 1, -2, 2), random_tensor({rows, dim}, dtype, 2),
          random_tensor({dim}, DType::kF32, 3, 0.5f, 1.5f)};
}

std::vector<double> row_of(const Tensor& tensor, int64_t t) {
  return to_doubles(tensor.rows(t, t + 1));
}

class RmsNormTest : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t>> {
 protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  int64_t rows() const { return std::get<1>(GetParam()); }
  int64_t dim() const { return std::get<2>(GetParam()); }
  ExecContext ctx_{2};
};

TEST_P(RmsNormTest, ForwardEqualsReference) {
  const Inputs in = make_inputs(rows(), dim(), dtype());
  Tensor y = ctx_.empty(in.x.shape(), dtype()), rstd = ctx_.empty({rows()}, DType::kF32);
  rms_norm_forward(ctx_, in.x, in.weight, kEps, y, &rstd);
  std::vector<double> expected, expected_rstd;
  for (int64_t t = 0; t < rows(); ++t) {
    const std::vector<double> x = row_of(in.x, t);
    for (double v : ref::rms_norm(x, to_doubles(in.weight), kEps)) expected.push_back(v);
    double squares = 0;
    for (double v : x) squares += v * v;
    expected_rstd.push_back(1 / std::sqrt(squares / static_cast<double>(dim()) + kEps));
  }
  EXPECT_TRUE(testing::all_near(y, expected, testing::rounding_tolerance(dtype())));
  EXPECT_TRUE(testing::all_near(rstd, expected_rstd, testing::rounding_tolerance(DType::kF32)));
}

TEST_P(RmsNormTest, BackwardEqualsReference) {
  const Inputs in = make_inputs(rows(), dim(), dtype());
  Tensor y = ctx_.empty(in.x.shape(), dtype()), rstd = ctx_.empty({rows()}, DType::kF32);
  Tensor dx = ctx_.empty(in.x.shape(), dtype()), dweight = ctx_.zeros({dim()}, DType::kF32);
  rms_norm_forward(ctx_, in.x, in.weight, kEps, y, &rstd);
  rms_norm_backward(ctx_, in.dy, in.x, in.weight, rstd, dx, dweight);
  std::vector<double> expected_dx, expected_dweight(static_cast<size_t>(dim()));
  for (int64_t t = 0; t < rows(); ++t) {
    const ref::RmsNormGrad grad =
        ref::rms_norm_backward(row_of(in.dy, t), row_of(in.x, t), to_doubles(in.weight), kEps);
    expected_dx.insert(expected_dx.end(), grad.dx.begin(), grad.dx.end());
    for (size_t d = 0; d < grad.dweight.size(); ++d) expected_dweight[d] += grad.dweight[d];
  }
  // dx is rstd times a difference of O(1) numbers, which nearly cancel in the shortest rows.
  testing::Tolerance tolerance = testing::sum_tolerance(dtype(), dim());
  for (float r : to_floats(rstd)) tolerance.absolute = std::max(tolerance.absolute, 1e-6 * r);
  EXPECT_TRUE(testing::all_near(dx, expected_dx, tolerance));
  EXPECT_TRUE(testing::all_near(dweight, expected_dweight,
                                testing::sum_tolerance(DType::kF32, 4 * rows())));
}

TEST_P(RmsNormTest, SecondBackwardDoublesWeightGradient) {
  const Inputs in = make_inputs(rows(), dim(), dtype());
  const Tensor rstd = random_tensor({rows()}, DType::kF32, 4, 0.5f, 2);
  Tensor dx = ctx_.empty(in.x.shape(), dtype()), dweight = ctx_.zeros({dim()}, DType::kF32);
  rms_norm_backward(ctx_, in.dy, in.x, in.weight, rstd, dx, dweight);
  const std::vector<float> once = to_floats(dweight);
  rms_norm_backward(ctx_, in.dy, in.x, in.weight, rstd, dx, dweight);
  const std::vector<float> twice = to_floats(dweight);
  for (size_t d = 0; d < once.size(); ++d) EXPECT_EQ(twice[d], 2 * once[d]);
}

TEST_P(RmsNormTest, EveryLevelAndThreadCountGivesTheSameBits) {
  const Inputs in = make_inputs(rows(), dim(), dtype());
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    Tensor y = ctx.empty(in.x.shape(), dtype()), rstd = ctx.empty({rows()}, DType::kF32);
    Tensor dx = ctx.empty(in.x.shape(), dtype()), dweight = ctx.zeros({dim()}, DType::kF32);
    rms_norm_forward(ctx, in.x, in.weight, kEps, y, &rstd);
    rms_norm_backward(ctx, in.dy, in.x, in.weight, rstd, dx, dweight);
    return std::vector<Tensor>{y, rstd, dx, dweight};
  }));
}

TEST_P(RmsNormTest, RowAloneHasTheBitsOfTheBatch) {
  const Inputs in = make_inputs(rows(), dim(), dtype());
  Tensor y = ctx_.empty(in.x.shape(), dtype()), rstd = ctx_.empty({rows()}, DType::kF32);
  Tensor dx = ctx_.empty(in.x.shape(), dtype()), dweight = ctx_.zeros({dim()}, DType::kF32);
  rms_norm_forward(ctx_, in.x, in.weight, kEps, y, &rstd);
  rms_norm_backward(ctx_, in.dy, in.x, in.weight, rstd, dx, dweight);
  for (int64_t t = 0; t < rows(); t += 7) {
    Tensor one_y = ctx_.empty({1, dim()}, dtype()), one_rstd = ctx_.empty({1}, DType::kF32);
    Tensor one_dx = ctx_.empty({1, dim()}, dtype());
    rms_norm_forward(ctx_, in.x.rows(t, t + 1), in.weight, kEps, one_y, &one_rstd);
    rms_norm_backward(ctx_, in.dy.rows(t, t + 1), in.x.rows(t, t + 1), in.weight, one_rstd, one_dx,
                      dweight);
    EXPECT_TRUE(testing::same_bits(one_y, y.rows(t, t + 1))) << t;
    EXPECT_TRUE(testing::same_bits(one_rstd, rstd.rows(t, t + 1))) << t;
    EXPECT_TRUE(testing::same_bits(one_dx, dx.rows(t, t + 1))) << t;
  }
}

TEST_P(RmsNormTest, FusedAddEqualsAddThenNorm) {
  const Inputs in = make_inputs(rows(), dim(), dtype());
  Tensor sum = in.x.clone(), y = ctx_.empty(in.x.shape(), dtype());
  Tensor rstd = ctx_.empty({rows()}, DType::kF32);
  add_inplace(ctx_, in.dy, sum);
  rms_norm_forward(ctx_, sum, in.weight, kEps, y, &rstd);

  Tensor residual = in.x.clone(), fused_y = ctx_.empty(in.x.shape(), dtype());
  Tensor fused_rstd = ctx_.empty({rows()}, DType::kF32);
  add_rms_norm_forward(ctx_, residual, in.dy, in.weight, kEps, fused_y, &fused_rstd);
  EXPECT_TRUE(testing::same_bits(residual, sum));
  EXPECT_TRUE(testing::same_bits(fused_y, y));
  EXPECT_TRUE(testing::same_bits(fused_rstd, rstd));
}

TEST_P(RmsNormTest, AccumulateAddsToDx) {
  const Inputs in = make_inputs(rows(), dim(), dtype());
  const Tensor rstd = random_tensor({rows()}, DType::kF32, 4, 0.5f, 2);
  const Tensor before = random_tensor({rows(), dim()}, dtype(), 5);
  Tensor alone = ctx_.empty(in.x.shape(), DType::kF32), added = before.clone();
  Tensor dweight = ctx_.zeros({dim()}, DType::kF32);
  Tensor x32 = ctx_.empty(in.x.shape(), DType::kF32), dy32 = ctx_.empty(in.x.shape(), DType::kF32);
  cast(ctx_, in.x, x32);
  cast(ctx_, in.dy, dy32);
  rms_norm_backward(ctx_, dy32, x32, in.weight, rstd, alone, dweight);
  rms_norm_backward(ctx_, in.dy, in.x, in.weight, rstd, added, dweight, Write::kAccumulate);
  const std::vector<float> old = to_floats(before), gradient = to_floats(alone),
                           got = to_floats(added);
  for (size_t i = 0; i < got.size(); ++i) {
    const float sum = old[i] + gradient[i];
    EXPECT_EQ(got[i], dtype() == DType::kBF16 ? to_float(to_bf16(sum)) : sum);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RmsNormTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 5, 131),
                                            ::testing::Values(1, 5, 16, 17, 100, 512)));

TEST(RmsNormReferenceTest, BackwardIsTheDerivative) {
  std::vector<double> x = {0.3, -1.2, 2.0, 0.1, -0.7}, weight = {1.0, 0.5, -1.5, 2.0, 0.8};
  const std::vector<double> dy = {0.2, -0.4, 1.0, 0.3, -0.9};
  const auto loss = [&] {
    const std::vector<double> y = ref::rms_norm(x, weight, 0.01);
    double sum = 0;
    for (size_t d = 0; d < y.size(); ++d) sum += dy[d] * y[d];
    return sum;
  };
  const ref::RmsNormGrad grad = ref::rms_norm_backward(dy, x, weight, 0.01);
  for (size_t d = 0; d < x.size(); ++d) {
    EXPECT_NEAR(grad.dx[d], testing::central_difference(loss, x[d]), 1e-8);
    EXPECT_NEAR(grad.dweight[d], testing::central_difference(loss, weight[d]), 1e-8);
  }
}

TEST(RmsNormArgumentTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  const Tensor x = ctx.zeros({3, 8}, DType::kF32), weight = ctx.zeros({8}, DType::kF32);
  const Tensor short_weight = ctx.zeros({7}, DType::kF32);
  Tensor y = ctx.zeros({3, 8}, DType::kF32), short_y = ctx.zeros({2, 8}, DType::kF32);
  Tensor y16 = ctx.zeros({3, 8}, DType::kBF16), rstd = ctx.zeros({3}, DType::kF32);
  Tensor short_rstd = ctx.zeros({2}, DType::kF32), dweight = ctx.zeros({8}, DType::kF32);
  EXPECT_INVALID_ARGUMENT(rms_norm_forward(ctx, x, short_weight, kEps, y, &rstd), "weight is [7]");
  EXPECT_INVALID_ARGUMENT(rms_norm_forward(ctx, x, weight, 0, y, &rstd), "eps is 0");
  EXPECT_INVALID_ARGUMENT(rms_norm_forward(ctx, x, weight, kEps, short_y, &rstd), "y is [2, 8]");
  EXPECT_INVALID_ARGUMENT(rms_norm_forward(ctx, x, weight, kEps, y16, &rstd), "y is bf16");
  EXPECT_INVALID_ARGUMENT(rms_norm_forward(ctx, x, weight, kEps, y, &short_rstd), "rstd is [2]");
  EXPECT_INVALID_ARGUMENT(add_rms_norm_forward(ctx, y, short_y, weight, kEps, y, nullptr),
                          "delta is [2, 8]");
  EXPECT_INVALID_ARGUMENT(rms_norm_backward(ctx, short_y, x, weight, rstd, y, dweight),
                          "dy is [2, 8]");
  EXPECT_INVALID_ARGUMENT(rms_norm_backward(ctx, x, x, weight, short_rstd, y, dweight),
                          "rstd is [2]");
  EXPECT_INVALID_ARGUMENT(rms_norm_backward(ctx, x, x, weight, rstd, short_y, dweight),
                          "dx is [2, 8]");
  EXPECT_INVALID_ARGUMENT(rms_norm_backward(ctx, x, x, weight, rstd, y, short_rstd),
                          "dweight is [2]");
}

}  // namespace
}  // namespace moerl::kernels
