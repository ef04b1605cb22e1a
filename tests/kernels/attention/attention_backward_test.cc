#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "kernels/attention/attention.h"
#include "tests/kernels/attention/attention_problem.h"
#include "tests/testing/isas.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::AttentionProblem;
using testing::AttentionResult;
using testing::AttentionRunner;
using testing::AttentionShape;
using testing::same_bits;

struct Gradients {
  Tensor dq, dk, dv;
};

Gradients backward(const AttentionProblem& p, int threads = 1, Isa isa = detect_isa()) {
  ExecContext ctx(threads, isa);
  const AttentionResult out = AttentionRunner(p, 1).run(ctx, 100000);
  Gradients g{Tensor::empty(p.q.shape(), p.shape.dtype), Tensor::empty(p.k.shape(), p.shape.dtype),
              Tensor::empty(p.v.shape(), p.shape.dtype)};
  for (Tensor* x : {&g.dq, &g.dk, &g.dv})
    std::memset(x->raw(), 0xFF, static_cast<size_t>(x->bytes()));
  attention_backward(ctx, p.dout, p.q, p.k, p.v, out.o, out.lse, p.whole(), p.scale, g.dq, g.dk,
                     g.dv);
  return g;
}
void expect_same(const Gradients& a, const Gradients& b) {
  EXPECT_TRUE(same_bits(a.dq, b.dq));
  EXPECT_TRUE(same_bits(a.dk, b.dk));
  EXPECT_TRUE(same_bits(a.dv, b.dv));
}
Gradients rows_of(const Gradients& g, int64_t begin, int64_t end) {
  return {g.dq.rows(begin, end), g.dk.rows(begin, end), g.dv.rows(begin, end)};
}

const AttentionShape kShapes[] = {
    {8, 1, 40, 32, DType::kF32},  {8, 1, 40, 32, DType::kBF16}, {3, 3, 24, 20, DType::kF32},
    {3, 3, 24, 20, DType::kBF16}, {4, 2, 16, 17, DType::kF32},  {5, 1, 7, 3, DType::kBF16},
    {1, 1, 1, 1, DType::kF32},    {14, 2, 16, 16, DType::kF32}, {6, 3, 20, 20, DType::kBF16},
};
const std::vector<int64_t> kLengths = {1, 31, 32, 33, 65};

class AttentionBackwardTest : public ::testing::TestWithParam<AttentionShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionBackwardTest, ::testing::ValuesIn(kShapes),
                         [](const auto& info) { return info.param.name(); });

TEST_P(AttentionBackwardTest, EqualsReference) {
  const AttentionProblem problem(GetParam(), kLengths);
  const Gradients got = backward(problem);
  // In bf16 delta comes from the rounded o, an error of 2^-9 of it.
  const testing::Tolerance tolerance = GetParam().dtype == DType::kBF16
                                           ? testing::Tolerance{1e-2, 1e-2}
                                           : testing::Tolerance{2e-5, 2e-5};
  for (size_t i = 0; i < kLengths.size(); ++i) {
    const AttentionProblem one = problem.only(i);
    const ref::AttentionGrad expected =
        ref::attention_backward(one.ref_input(), testing::to_doubles(one.dout));
    const int64_t begin = problem.first_row(i);
    const Gradients part = rows_of(got, begin, begin + kLengths[i]);
    EXPECT_TRUE(testing::all_near(part.dq, expected.dq, tolerance)) << "dq of sequence " << i;
    EXPECT_TRUE(testing::all_near(part.dk, expected.dk, tolerance)) << "dk of sequence " << i;
    EXPECT_TRUE(testing::all_near(part.dv, expected.dv, tolerance)) << "dv of sequence " << i;
  }
}

TEST_P(AttentionBackwardTest, ASequenceAloneHasTheBitsItHasInABatch) {
  const AttentionProblem problem(GetParam(), kLengths);
  const Gradients batch = backward(problem);
  for (size_t i = 0; i < kLengths.size(); ++i) {
    const int64_t begin = problem.first_row(i);
    expect_same(rows_of(batch, begin, begin + kLengths[i]), backward(problem.only(i)));
  }
}

TEST_P(AttentionBackwardTest, BitsDoNotDependOnThreads) {
  // One long sequence (its work is shared out), and many (each by one thread).
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{130}, std::vector<int64_t>{33, 40, 1, 35, 36, 34, 33, 64}}) {
    const AttentionProblem problem(GetParam(), lengths);
    const Gradients one = backward(problem);
    for (int threads : {2, 3}) expect_same(one, backward(problem, threads));
  }
}

TEST_P(AttentionBackwardTest, BitsDoNotDependOnTheInstructionLevel) {
  const AttentionProblem problem(GetParam(), {70, 5});
  const Gradients best = backward(problem);
  for (Isa isa : testing::available_isas()) expect_same(best, backward(problem, 1, isa));
}

// The forward pass of the later rows has merged splits.
TEST(AttentionBackwardSplitTest, EqualsReferenceBeyondASplit) {
  const AttentionProblem problem({2, 1, 9, 7, DType::kF32}, {kKvSplit + 30});
  const Gradients got = backward(problem, 2);
  const ref::AttentionGrad expected =
      ref::attention_backward(problem.ref_input(), testing::to_doubles(problem.dout));
  const testing::Tolerance tolerance{2e-5, 2e-5};
  EXPECT_TRUE(testing::all_near(got.dq, expected.dq, tolerance));
  EXPECT_TRUE(testing::all_near(got.dk, expected.dk, tolerance));
  EXPECT_TRUE(testing::all_near(got.dv, expected.dv, tolerance));
}

TEST(AttentionReferenceTest, GradientsAreThoseOfFiniteDifferences) {
  const AttentionProblem problem({4, 2, 5, 3, DType::kF32}, {7});
  ref::AttentionInput in = problem.ref_input();
  const std::vector<double> dout = testing::to_doubles(problem.dout);
  const ref::AttentionGrad grad = ref::attention_backward(in, dout);
  auto loss = [&] {
    const std::vector<double> o = ref::attention_forward(in).o;
    return ref::dot(o.data(), dout.data(), static_cast<int64_t>(o.size()));
  };
  auto compare = [&](std::vector<double>& x, const std::vector<double>& dx, const char* name) {
    for (size_t i = 0; i < x.size(); ++i) {
      const double kept = x[i], h = 1e-5;
      x[i] = kept + h;
      const double up = loss();
      x[i] = kept - h;
      const double down = loss();
      x[i] = kept;
      EXPECT_NEAR(dx[i], (up - down) / (2 * h), 1e-8) << name << "[" << i << "]";
    }
  };
  compare(in.q, grad.dq, "q");
  compare(in.k, grad.dk, "k");
  compare(in.v, grad.dv, "v");
}

TEST(AttentionBackwardArgumentsTest, AreChecked) {
  ExecContext ctx(1);
  const AttentionProblem p({2, 1, 8, 6, DType::kF32}, {5});
  Tensor lse = Tensor::zeros({5, 2}, DType::kF32), o = Tensor::zeros({5, 2, 6}, DType::kF32);
  Tensor dq = Tensor::zeros(p.q.shape(), DType::kF32), dk = Tensor::zeros(p.k.shape(), DType::kF32),
         dv = Tensor::zeros(p.v.shape(), DType::kF32);
  std::vector<AttentionSegment> segments = p.whole();
  auto refused = [&](const std::string& text) {
    EXPECT_THAT(
        [&] { attention_backward(ctx, p.dout, p.q, p.k, p.v, o, lse, segments, 1, dq, dk, dv); },
        ::testing::ThrowsMessage<std::invalid_argument>(
            ::testing::HasSubstr("attention_backward: " + text)));
  };
  segments[0].start = 1;
  refused("segments[0].start is 1, expected 0");
  segments[0].start = 0;
  lse = Tensor::zeros({5, 1}, DType::kF32);
  refused("lse is [5, 1], expected [5, 2]");
  lse = Tensor::zeros({5, 2}, DType::kF32);
  dk = Tensor::zeros({5, 2, 8}, DType::kF32);
  refused("dk is [5, 2, 8], expected [5, 1, 8]");
  dk = Tensor::zeros({5, 1, 8}, DType::kBF16);
  refused("dk is bf16, expected f32");
}

TEST(AttentionBackwardArgumentsTest, NoRowsIsFine) {
  ExecContext ctx(2);
  const AttentionProblem p({2, 1, 8, 6, DType::kF32}, {});
  Tensor lse = Tensor::zeros({0, 2}, DType::kF32);
  Tensor dq = p.q.clone(), dk = p.k.clone(), dv = p.v.clone();
  EXPECT_NO_THROW(attention_backward(ctx, p.dout, p.q, p.k, p.v, p.dout, lse, {}, 1, dq, dk, dv));
}

}  // namespace
}  // namespace moerl::kernels
