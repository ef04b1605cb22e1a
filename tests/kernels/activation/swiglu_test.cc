#include "kernels/activation/swiglu.h"

#include <gtest/gtest.h>

#include <tuple>

#include "kernels/activation/swiglu_ref.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::to_doubles;

class SwigluTest : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t>> {
 protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  int64_t rows() const { return std::get<1>(GetParam()); }
  int64_t inner() const { return std::get<2>(GetParam()); }
  Tensor gate_up_ = random_tensor({rows(), 2 * inner()}, dtype(), 1, -6, 6);
  Tensor dhidden_ = random_tensor({rows(), inner()}, dtype(), 2);
  ExecContext ctx_{2};
};

TEST_P(SwigluTest, ForwardAndBackwardEqualReference) {
  Tensor hidden = ctx_.empty({rows(), inner()}, dtype());
  Tensor dgate_up = ctx_.empty({rows(), 2 * inner()}, dtype());
  swiglu_forward(ctx_, gate_up_, hidden);
  swiglu_backward(ctx_, dhidden_, gate_up_, dgate_up);
  const std::vector<double> in = to_doubles(gate_up_), dh = to_doubles(dhidden_);
  std::vector<double> expected(dh.size()), expected_grad(in.size());
  const auto width = static_cast<size_t>(inner());
  for (size_t t = 0; t < static_cast<size_t>(rows()); ++t) {
    for (size_t i = 0; i < width; ++i) {
      const double gate = in[2 * t * width + i], up = in[(2 * t + 1) * width + i];
      expected[t * width + i] = ref::swiglu(gate, up);
      const ref::SwigluGrad grad = ref::swiglu_backward(dh[t * width + i], gate, up);
      expected_grad[2 * t * width + i] = grad.dgate;
      expected_grad[(2 * t + 1) * width + i] = grad.dup;
    }
  }
  EXPECT_TRUE(testing::all_near(hidden, expected, testing::rounding_tolerance(dtype())));
  // 1 + gate (1 - s) cancels near its root, where the absolute error is that of a short sum.
  EXPECT_TRUE(testing::all_near(dgate_up, expected_grad, testing::sum_tolerance(dtype(), 36)));
}

TEST_P(SwigluTest, EveryLevelThreadCountAndBatchGivesTheSameBits) {
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    Tensor hidden = ctx.empty({rows(), inner()}, dtype());
    Tensor dgate_up = ctx.empty({rows(), 2 * inner()}, dtype());
    swiglu_forward(ctx, gate_up_, hidden);
    swiglu_backward(ctx, dhidden_, gate_up_, dgate_up);
    for (int64_t t = 0; t < rows(); t += 9) {
      Tensor row = ctx.empty({1, inner()}, dtype()), grad = ctx.empty({1, 2 * inner()}, dtype());
      swiglu_forward(ctx, gate_up_.rows(t, t + 1), row);
      swiglu_backward(ctx, dhidden_.rows(t, t + 1), gate_up_.rows(t, t + 1), grad);
      EXPECT_TRUE(testing::same_bits(row, hidden.rows(t, t + 1)));
      EXPECT_TRUE(testing::same_bits(grad, dgate_up.rows(t, t + 1)));
    }
    return std::vector<Tensor>{hidden, dgate_up};
  }));
}

INSTANTIATE_TEST_SUITE_P(Shapes, SwigluTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 131),
                                            ::testing::Values(1, 5, 16, 17, 100, 256)));

TEST(SwigluReferenceTest, BackwardIsTheDerivative) {
  for (double gate : {-5.0, -1.3, 0.0, 0.7, 4.0}) {
    double a = gate, up = 1.7;
    const auto loss = [&] { return 0.6 * ref::swiglu(a, up); };
    const ref::SwigluGrad grad = ref::swiglu_backward(0.6, a, up);
    EXPECT_NEAR(grad.dgate, testing::central_difference(loss, a), 1e-9);
    EXPECT_NEAR(grad.dup, testing::central_difference(loss, up), 1e-9);
  }
}

TEST(SwigluEdgeTest, LargeGatesSaturateWithoutNan) {
  ExecContext ctx(1);
  const Tensor gate_up = Tensor::from<float>({2, 2}, {-200, 1, 200, 1});
  const Tensor dhidden = Tensor::from<float>({2, 1}, {1, 1});
  Tensor hidden = ctx.empty({2, 1}, DType::kF32), grad = ctx.empty({2, 2}, DType::kF32);
  swiglu_forward(ctx, gate_up, hidden);
  swiglu_backward(ctx, dhidden, gate_up, grad);
  EXPECT_TRUE(testing::all_near(hidden, {0, 200}, testing::rounding_tolerance(DType::kF32)));
  EXPECT_TRUE(testing::all_near(grad, {0, 0, 1, 200}, testing::rounding_tolerance(DType::kF32)));
}

TEST(SwigluArgumentTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  Tensor gate_up = ctx.zeros({3, 8}, DType::kF32), odd = ctx.zeros({3, 7}, DType::kF32);
  Tensor hidden = ctx.zeros({3, 4}, DType::kF32), half = ctx.zeros({3, 4}, DType::kBF16);
  EXPECT_INVALID_ARGUMENT(swiglu_forward(ctx, odd, hidden), "gate_up is [3, 7]");
  EXPECT_INVALID_ARGUMENT(swiglu_forward(ctx, gate_up, odd), "hidden is [3, 7]");
  EXPECT_INVALID_ARGUMENT(swiglu_forward(ctx, gate_up, half), "hidden is bf16");
  EXPECT_INVALID_ARGUMENT(swiglu_backward(ctx, odd, gate_up, gate_up), "dhidden is [3, 7]");
  EXPECT_INVALID_ARGUMENT(swiglu_backward(ctx, hidden, gate_up, odd), "dgate_up is [3, 7]");
}

}  // namespace
}  // namespace moerl::kernels
