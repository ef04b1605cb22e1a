#include "kernels/attention/attention.h"

#include <cmath>

#include "tests/simt/attention_on_device.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::AttentionProblem;
using testing::AttentionResult;
using testing::AttentionRunner;
using testing::AttentionShape;
using testing::DeviceRunner;
using testing::dims_of;
using testing::expect_same_last;
using testing::for_each_order;
using testing::kSplitLengths;
using testing::OnDevice;

struct Gradients {
  Tensor dq, dk, dv;
};

/// The backward pass on the device. @param out  what the forward pass returned.
Gradients device_backward(const AttentionProblem& p, const AttentionResult& out) {
  const AttentionShape& s = p.shape;
  std::vector<AttentionSegmentCuda> segments;
  for (const AttentionSegment& segment : p.whole())
    segments.push_back({segment.first_row, segment.num_rows, 0, nullptr});
  const OnDevice dout(p.dout), q(p.q), k(p.k), v(p.v), o(out.o), lse(out.lse);
  const OnDevice dq(p.q.shape(), s.dtype), dk(p.k.shape(), s.dtype), dv(p.v.shape(), s.dtype);
  const OnDevice delta(out.lse.shape(), DType::kF32);
  const ArrayOnDevice<AttentionSegmentCuda> segments_(segments);
  cuda_ops<AttentionGradCuda>().backward(
      {dims_of(s), s.dtype == DType::kBF16, p.scale, p.num_rows(), dout.raw(), q.raw(), k.raw(),
       v.raw(), o.raw(), lse.data(), segments_.data(), static_cast<int64_t>(segments.size()),
       *std::max_element(p.lengths.begin(), p.lengths.end()), dq.raw(), dk.raw(), dv.raw(),
       delta.data()});
  return {dq.to_host(), dk.to_host(), dv.to_host()};
}
Gradients device_backward(const AttentionProblem& p) {
  return device_backward(p, DeviceRunner(p).run(100));
}
void expect_same(const Gradients& a, const Gradients& b) {
  EXPECT_TRUE(testing::same_bits(a.dq, b.dq)) << "dq";
  EXPECT_TRUE(testing::same_bits(a.dk, b.dk)) << "dk";
  EXPECT_TRUE(testing::same_bits(a.dv, b.dv)) << "dv";
}
Gradients rows_of(const Gradients& g, int64_t begin, int64_t end) {
  return {g.dq.rows(begin, end), g.dk.rows(begin, end), g.dv.rows(begin, end)};
}

class AttentionCudaTest : public ::testing::TestWithParam<AttentionShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionCudaTest,
                         ::testing::Values(AttentionShape{5, 1, 40, 33, DType::kF32},
                                           AttentionShape{5, 1, 40, 33, DType::kBF16},
                                           AttentionShape{3, 3, 24, 20, DType::kBF16},
                                           AttentionShape{4, 2, 16, 17, DType::kF32},
                                           AttentionShape{1, 1, 1, 1, DType::kF32}),
                         [](const auto& info) { return info.param.name(); });

// Prefill, prefill in chunks, decode: one row function, whose bits are the CPU's.
TEST_P(AttentionCudaTest, ForwardHasTheBitsOfTheCpuInChunksOfAnySize) {
  const AttentionProblem problem(GetParam(), {1, 33, 41});
  ExecContext cpu(1);
  const AttentionResult expected = AttentionRunner(problem, 1).run(cpu, 100);
  for_each_order([&] {
    for (int64_t chunk : {100, 17}) {
      const AttentionResult got = DeviceRunner(problem).run(chunk);
      EXPECT_TRUE(testing::same_bits(got.o, expected.o)) << "chunk " << chunk;
      EXPECT_TRUE(testing::same_bits(got.lse, expected.lse)) << "chunk " << chunk;
    }
  });
  const AttentionResult decoded = DeviceRunner(problem).run(1);
  EXPECT_TRUE(testing::same_bits(decoded.o, expected.o));
}

class AttentionSplitCudaTest : public ::testing::TestWithParam<AttentionShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionSplitCudaTest,
                         ::testing::Values(AttentionShape{3, 1, 9, 7, DType::kF32},
                                           AttentionShape{4, 2, 8, 17, DType::kBF16}),
                         [](const auto& info) { return info.param.name(); });

TEST_P(AttentionSplitCudaTest, HasTheBitsOfTheCpuOneAfterTheOtherAndSideBySide) {
  ExecContext cpu(1);
  const AttentionProblem two(GetParam(), kSplitLengths), three(GetParam(), {2 * kKvSplit + 1});
  const AttentionResult expected = AttentionRunner(two, 1).run(cpu, 5000);
  for_each_order([&] {
    for (bool side_by_side : {false, true})
      expect_same_last(two, 3, DeviceRunner(two).run_last(3, side_by_side), expected);
  });
  const AttentionResult expected_of_three = AttentionRunner(three, 1).run(cpu, 5000);
  for (bool side_by_side : {false, true})
    expect_same_last(three, 5, DeviceRunner(three).run_last(5, side_by_side), expected_of_three);
}

TEST_P(AttentionCudaTest, BackwardHasTheBitsOfTheCpu) {
  const AttentionShape s = GetParam();
  const AttentionProblem p(s, {1, 33, 41});
  ExecContext cpu(1);
  const AttentionResult out = AttentionRunner(p, 1).run(cpu, 100);
  Tensor dq = cpu.empty(p.q.shape(), s.dtype), dk = cpu.empty(p.k.shape(), s.dtype);
  Tensor dv = cpu.empty(p.v.shape(), s.dtype);
  attention_backward(cpu, p.dout, p.q, p.k, p.v, out.o, out.lse, p.whole(), p.scale, dq, dk, dv);
  for_each_order([&] { expect_same(device_backward(p, out), {dq, dk, dv}); });
}

// On tensor cores: groups that fill a tile, that do not, more columns than one warp has tiles for.
class MmaAttentionCudaTest : public ::testing::TestWithParam<AttentionShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, MmaAttentionCudaTest,
                         ::testing::Values(AttentionShape{16, 1, 64, 32, DType::kBF16},
                                           AttentionShape{3, 3, 32, 160, DType::kBF16},
                                           AttentionShape{6, 2, 96, 64, DType::kBF16}),
                         [](const auto& info) { return info.param.name(); });

TEST_P(MmaAttentionCudaTest, ForwardEqualsTheReference) {
  const AttentionProblem problem(GetParam(), {1, 33, 41});
  for_each_order([&] {
    const AttentionResult got = DeviceRunner(problem).run(100);
    for (size_t i = 0; i < problem.lengths.size(); ++i) {
      const ref::AttentionOutput expected = ref::attention_forward(problem.only(i).ref_input());
      const int64_t begin = problem.first_row(i), end = begin + problem.lengths[i];
      // Each probability is rounded to bf16, and so is the output.
      EXPECT_TRUE(testing::all_near(got.o.rows(begin, end), expected.o, {4e-3, 8e-3}));
      EXPECT_TRUE(testing::all_near(got.lse.rows(begin, end), expected.lse, {1e-5, 1e-5}));
    }
  });
}

TEST_P(MmaAttentionCudaTest, ARowHasTheSameBitsInChunksOfAnySizeAndAlone) {
  for_each_order([&] {
    const AttentionProblem problem(GetParam(), {1, 34});
    const AttentionResult whole = DeviceRunner(problem).run(100);
    for (int64_t chunk : {1, 17}) {
      const AttentionResult got = DeviceRunner(problem).run(chunk);
      EXPECT_TRUE(testing::same_bits(got.o, whole.o)) << "chunk " << chunk;
      EXPECT_TRUE(testing::same_bits(got.lse, whole.lse)) << "chunk " << chunk;
    }
    const AttentionProblem alone = problem.only(1);
    EXPECT_TRUE(testing::same_bits(DeviceRunner(alone).run(100).o, whole.o.rows(1, 35)));
  });
}

// Few and many columns for a warp.
class MmaAttentionSplitCudaTest : public ::testing::TestWithParam<AttentionShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, MmaAttentionSplitCudaTest,
                         ::testing::Values(AttentionShape{16, 1, 64, 32, DType::kBF16},
                                           AttentionShape{1, 1, 32, 160, DType::kBF16}),
                         [](const auto& info) { return info.param.name(); });

TEST_P(MmaAttentionSplitCudaTest, HasTheSameBitsOneAfterTheOtherAndSideBySide) {
  const AttentionProblem two(GetParam(), kSplitLengths), three(GetParam(), {2 * kKvSplit + 1});
  const AttentionResult walked = DeviceRunner(two).run_last(3, false);
  for_each_order([&] { expect_same_last(two, 3, DeviceRunner(two).run_last(3, true), walked); });
  for (bool side_by_side : {false, true})
    expect_same_last(two, 1, DeviceRunner(two).run_last(1, side_by_side), walked);

  const AttentionResult last = DeviceRunner(three).run_last(1, false);
  expect_same_last(three, 1, DeviceRunner(three).run_last(1, true), last);
  const ref::AttentionInput in = three.ref_input();
  std::vector<double> o(static_cast<size_t>(in.num_heads * in.v_dim)), lse;
  for (int64_t h = 0; h < in.num_heads; ++h)
    lse.push_back(ref::attention_row(in, in.num_tokens - 1, h, o.data() + h * in.v_dim));
  const int64_t end = in.num_tokens;
  EXPECT_TRUE(testing::all_near(last.o.rows(end - 1, end), o, {4e-3, 8e-3}));
  EXPECT_TRUE(testing::all_near(last.lse.rows(end - 1, end), lse, {1e-5, 1e-5}));
}

TEST_P(MmaAttentionSplitCudaTest, ValuesInKeysGiveTheBitsOfStoredOnes) {
  if (GetParam().v_dim > GetParam().k_dim) GTEST_SKIP() << "values wider than keys";
  for_each_order([&] {
    const AttentionProblem problem =
        AttentionProblem(GetParam(), {kKvSplit + 2}).with_values_in_keys();
    const AttentionResult stored = DeviceRunner(problem).run_last(3, false);
    for (bool side_by_side : {false, true})
      expect_same_last(problem, 3,
                       DeviceRunner(problem, KvValues::kInKeys).run_last(3, side_by_side), stored);
  });
}

/// P, dS, o and the gradients are rounded to bf16, by at most 2^-9 each. These errors are
/// independent: together less than 2^-8 of a gradient's size, though an element that is small
/// beside the terms of its sum may be off by more of itself.
::testing::AssertionResult near_gradient(const Tensor& got, const std::vector<double>& expected) {
  const std::vector<double> values = testing::to_doubles(got);
  const auto count = static_cast<double>(expected.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (values[i] - expected[i]) * (values[i] - expected[i]) / count;
    size += expected[i] * expected[i] / count;
  }
  error = std::sqrt(error);
  size = std::sqrt(size);
  if (!(error <= 0x1p-8 * size + 1e-6))
    return ::testing::AssertionFailure() << "rms error " << error << " where the rms is " << size;
  return testing::all_near(got, expected, {0x1p-7, 0x1p-5 * size + 1e-6});
}

// MQA, GQA and MHA; groups that fill a tile of rows and that do not; widths of more and of fewer
// tiles of columns than there are warps; the widest that tensor cores take, with and without tails.
struct GradCase {
  AttentionShape shape;
  std::vector<int64_t> lengths;
};
class MmaAttentionGradCudaTest : public ::testing::TestWithParam<GradCase> {
 protected:
  AttentionProblem problem() const {
    AttentionProblem p(GetParam().shape, GetParam().lengths);
    p.scale = 1.0f / std::sqrt(static_cast<float>(p.shape.k_dim) / 3.0f);  // scores like N(0, 1/3)
    return p;
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, MmaAttentionGradCudaTest,
                         ::testing::Values(GradCase{{16, 1, 64, 32, DType::kBF16}, {1, 33, 41}},
                                           GradCase{{6, 2, 96, 64, DType::kBF16}, {1, 33, 41, 70}},
                                           GradCase{{3, 1, 32, 160, DType::kBF16}, {41, 1}},
                                           GradCase{{2, 2, 192, 128, DType::kBF16}, {33, 70}},
                                           GradCase{{3, 1, 576, 512, DType::kBF16}, {41, 1, 32}}),
                         [](const auto& info) { return info.param.shape.name(); });

TEST_P(MmaAttentionGradCudaTest, EqualsTheReference) {
  for_each_order([&] {
    const AttentionProblem p = problem();
    const Gradients got = device_backward(p);
    for (size_t i = 0; i < p.lengths.size(); ++i) {
      const AttentionProblem one = p.only(i);
      const ref::AttentionGrad expected =
          ref::attention_backward(one.ref_input(), testing::to_doubles(one.dout));
      const int64_t begin = p.first_row(i);
      const Gradients part = rows_of(got, begin, begin + p.lengths[i]);
      EXPECT_TRUE(near_gradient(part.dq, expected.dq)) << "dq of sequence " << i;
      EXPECT_TRUE(near_gradient(part.dk, expected.dk)) << "dk of sequence " << i;
      EXPECT_TRUE(near_gradient(part.dv, expected.dv)) << "dv of sequence " << i;
    }
  });
}

// What stands in place of rows that are not there is 0, and not a row of another sequence.
TEST_P(MmaAttentionGradCudaTest, ANanStaysInItsSequence) {
  AttentionProblem p = problem();
  const Gradients clean = device_backward(p);
  p.dout = p.dout.clone();
  bf16* first = p.dout.data<bf16>();
  std::fill(first, first + p.lengths[0] * p.shape.num_heads * p.shape.v_dim, bf16{0x7FC0});
  const Gradients got = device_backward(p);
  const int64_t begin = p.lengths[0], end = p.num_rows();
  expect_same(rows_of(got, begin, end), rows_of(clean, begin, end));
}

TEST_P(MmaAttentionGradCudaTest, ASequenceAloneHasTheBitsItHasInABatchInEveryOrder) {
  const AttentionProblem p = problem();
  const Gradients batch = device_backward(p);
  for_each_order([&] { expect_same(device_backward(p), batch); });
  for (size_t i = 0; i < p.lengths.size(); ++i)
    expect_same(device_backward(p.only(i)),
                rows_of(batch, p.first_row(i), p.first_row(i) + p.lengths[i]));
}

}  // namespace
}  // namespace moerl::kernels
