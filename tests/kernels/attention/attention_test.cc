#include "kernels/attention/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/attention/attention_impl.h"
#include "tests/kernels/attention/attention_problem.h"
#include "tests/testing/isas.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::AttentionProblem;
using testing::AttentionResult;
using testing::AttentionRunner;
using testing::AttentionShape;
using ::testing::HasSubstr;
using testing::same_bits;
using ::testing::ThrowsMessage;

// MQA in the proportions of absorbed MLA, MHA, one between; widths off the vector length too.
const AttentionShape kShapes[] = {
    {8, 1, 40, 32, DType::kF32},  {8, 1, 40, 32, DType::kBF16}, {3, 3, 24, 20, DType::kF32},
    {3, 3, 24, 20, DType::kBF16}, {2, 2, 48, 32, DType::kBF16}, {5, 1, 7, 3, DType::kF32},
    {4, 2, 16, 17, DType::kBF16}, {1, 1, 1, 1, DType::kF32},    {14, 2, 16, 16, DType::kF32},
    {6, 3, 20, 20, DType::kBF16},
};
const std::vector<int64_t> kLengths = {1, 31, 32, 33, 65};
constexpr int64_t kWhole = 1000;

AttentionResult run(const AttentionProblem& problem, int64_t chunk = kWhole, int threads = 1,
                    Isa isa = detect_isa(), uint64_t table_seed = 1) {
  ExecContext ctx(threads, isa);
  return AttentionRunner(problem, table_seed).run(ctx, chunk);
}
void expect_same(const AttentionResult& a, const AttentionResult& b) {
  EXPECT_TRUE(same_bits(a.o, b.o));
  EXPECT_TRUE(same_bits(a.lse, b.lse));
}

class AttentionTest : public ::testing::TestWithParam<AttentionShape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest, ::testing::ValuesIn(kShapes),
                         [](const auto& info) { return info.param.name(); });

TEST_P(AttentionTest, EqualsReference) {
  const AttentionProblem problem(GetParam(), kLengths);
  const AttentionResult got = run(problem);
  for (size_t i = 0; i < kLengths.size(); ++i) {
    const ref::AttentionOutput expected = ref::attention_forward(problem.only(i).ref_input());
    const int64_t begin = problem.first_row(i), end = begin + kLengths[i];
    EXPECT_TRUE(testing::all_near(got.o.rows(begin, end), expected.o,
                                  testing::sum_tolerance(GetParam().dtype, 65)));
    EXPECT_TRUE(testing::all_near(got.lse.rows(begin, end), expected.lse,
                                  testing::sum_tolerance(DType::kF32, 65)));
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  AttentionProblem problem(GetParam(), {40});
  problem.scale = 300;
  const AttentionResult got = run(problem);
  const ref::AttentionOutput expected = ref::attention_forward(problem.ref_input());
  // The scores are in the thousands: fp32 leaves them an error of 1e-3.
  EXPECT_TRUE(testing::all_near(got.o, expected.o, {6e-3, 6e-3}));
  EXPECT_TRUE(testing::all_near(got.lse, expected.lse, {1e-6, 1e-3}));
}

TEST_P(AttentionTest, DecodeAndChunkedPrefillGiveTheBitsOfWholePrefill) {
  const AttentionProblem problem(GetParam(), kLengths);
  const AttentionResult whole = run(problem);
  for (int64_t chunk : {1, 2, 7, 32, 40}) expect_same(whole, run(problem, chunk));
}

TEST_P(AttentionTest, ASequenceAloneHasTheBitsItHasInABatch) {
  const AttentionProblem problem(GetParam(), kLengths);
  const AttentionResult batch = run(problem);
  for (size_t i = 0; i < kLengths.size(); ++i) {
    const int64_t begin = problem.first_row(i), end = begin + kLengths[i];
    expect_same({batch.o.rows(begin, end), batch.lse.rows(begin, end)}, run(problem.only(i)));
  }
}

TEST_P(AttentionTest, BitsDoNotDependOnThreadsOrPaging) {
  const AttentionProblem problem(GetParam(), kLengths);
  const AttentionResult one = run(problem);
  for (int threads : {2, 3})
    for (int64_t chunk : {int64_t{1}, kWhole})
      expect_same(one, run(problem, chunk, threads, detect_isa(), 10u + chunk));
}

TEST_P(AttentionTest, BitsDoNotDependOnTheInstructionLevel) {
  const AttentionProblem problem(GetParam(), kLengths);
  const AttentionResult best = run(problem);
  for (Isa isa : testing::available_isas()) expect_same(best, run(problem, kWhole, 1, isa));
}

TEST_P(AttentionTest, ValuesInKeysGiveTheBitsOfStoredOnes) {
  if (GetParam().v_dim > GetParam().k_dim) GTEST_SKIP() << "values wider than keys";
  const AttentionProblem problem = AttentionProblem(GetParam(), kLengths).with_values_in_keys();
  const AttentionResult stored = run(problem);
  for (Isa isa : testing::available_isas())
    for (int64_t chunk : {int64_t{1}, int64_t{7}, kWhole}) {
      ExecContext ctx(2, isa);
      AttentionRunner runner(problem, 3, KvValues::kInKeys);
      expect_same(stored, runner.run(ctx, chunk));
    }
}

TEST(AttentionForwardTest, ManyRowsGiveTheBitsOfOneRow) {
  // Tiles of every size: 1 to 9 rows of each sequence in a step.
  const AttentionProblem problem({1, 1, 33, 18, DType::kBF16}, {90, 70});
  const AttentionResult whole = run(problem, 1);
  for (int64_t chunk = 2; chunk < 10; ++chunk) expect_same(whole, run(problem, chunk, 2));
}

// Sequences of about one split and about two.
class AttentionSplitTest : public ::testing::TestWithParam<AttentionShape> {
 protected:
  const AttentionProblem problem_{GetParam(), {kKvSplit, kKvSplit + 1, 2 * kKvSplit + 3}};
  const AttentionResult whole_ = run(problem_, 5000);
};
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionSplitTest,
                         ::testing::Values(AttentionShape{2, 1, 9, 7, DType::kF32},
                                           AttentionShape{2, 2, 8, 17, DType::kBF16}),
                         [](const auto& info) { return info.param.name(); });

TEST_P(AttentionSplitTest, EqualsReference) {
  for (size_t i = 0; i < problem_.lengths.size(); ++i) {
    const ref::AttentionOutput expected = ref::attention_forward(problem_.only(i).ref_input());
    const int64_t begin = problem_.first_row(i), end = begin + problem_.lengths[i];
    EXPECT_TRUE(testing::all_near(whole_.o.rows(begin, end), expected.o,
                                  testing::sum_tolerance(GetParam().dtype, 65)));
    EXPECT_TRUE(testing::all_near(whole_.lse.rows(begin, end), expected.lse,
                                  testing::sum_tolerance(DType::kF32, 65)));
  }
}

TEST_P(AttentionSplitTest, DecodeAndChunkedPrefillGiveTheBitsOfWholePrefill) {
  for (int64_t chunk : {int64_t{1}, int64_t{333}, kKvSplit})
    expect_same(whole_, run(problem_, chunk, 2));
}

TEST_P(AttentionSplitTest, BitsDoNotDependOnTheInstructionLevel) {
  for (Isa isa : testing::available_isas()) expect_same(whole_, run(problem_, 5000, 1, isa));
}

TEST_P(AttentionSplitTest, ValuesInKeysGiveTheBitsOfStoredOnes) {
  if (GetParam().v_dim > GetParam().k_dim) GTEST_SKIP() << "values wider than keys";
  const AttentionProblem problem = problem_.with_values_in_keys();
  ExecContext ctx(1);
  AttentionRunner runner(problem, 3, KvValues::kInKeys);
  expect_same(run(problem, 5000), runner.run(ctx, 700));
}

// The first split is as if it were alone: a sequence's rows do not know what comes behind them.
TEST_P(AttentionSplitTest, WhatComesBehindARowDoesNotMatter) {
  AttentionProblem shorter = problem_.only(2);
  shorter.lengths = {kKvSplit + 1};
  for (Tensor* x : {&shorter.q, &shorter.k, &shorter.v}) *x = x->rows(0, kKvSplit + 1).clone();
  const int64_t begin = problem_.first_row(2), end = begin + kKvSplit + 1;
  expect_same({whole_.o.rows(begin, end), whole_.lse.rows(begin, end)}, run(shorter, 5000));
}

TEST(AttentionForwardTest, SplitsAreSideBySideWhereFewRowsSeeManyKeys) {
  AttentionForwardCuda args{.dims = {128, 1, 576, 512},
                            .rows = 4,
                            .num_segments = 4,
                            .most_rows = 1,
                            .most_keys = 5 * kKvSplit};
  EXPECT_TRUE(attention_splits_side_by_side(args));
  args.most_keys = kKvSplit;  // a single split
  EXPECT_FALSE(attention_splits_side_by_side(args));
  args.most_keys = 1000 * kKvSplit;  // partial results of a GiB
  EXPECT_FALSE(attention_splits_side_by_side(args));
  args.most_keys = 2 * kKvSplit;  // enough blocks without
  args.num_segments = args.rows = 33;
  EXPECT_FALSE(attention_splits_side_by_side(args));
}

TEST(AttentionForwardTest, NoRowsIsFine) {
  const AttentionProblem problem({2, 1, 8, 8, DType::kF32}, {});
  ExecContext ctx(2);
  AttentionRunner runner(problem, 1);
  Tensor o = Tensor::empty({0, 2, 8}, DType::kF32);
  EXPECT_NO_THROW(attention_forward(ctx, problem.q, runner.cache(), {}, 1, o, nullptr));
  const AttentionSegment empty{0, 0, 0, {}};
  EXPECT_NO_THROW(
      attention_forward(ctx, problem.q, runner.cache(), std::span(&empty, 1), 1, o, nullptr));
}

TEST(AttentionForwardTest, LseIsOptional) {
  const AttentionProblem problem({2, 2, 8, 8, DType::kF32}, {40});
  const AttentionResult with = run(problem);
  ExecContext ctx(1);
  AttentionRunner runner(problem, 1);
  runner.run(ctx, kWhole);
  Tensor o = Tensor::zeros(with.o.shape(), DType::kF32);
  const AttentionSegment segment{0, 40, 0, runner.table(0)};
  attention_forward(ctx, problem.q, runner.cache(), std::span(&segment, 1), problem.scale, o,
                    nullptr);
  EXPECT_TRUE(same_bits(o, with.o));
}

TEST(AttentionForwardTest, OneSharedKeyReturnsItsValue) {
  // A row that sees one key has probability exactly 1 for it, whatever the score.
  const AttentionProblem problem({4, 1, 16, 24, DType::kBF16}, {1});
  const AttentionResult got = run(problem);
  const std::vector<float> o = testing::to_floats(got.o), v = testing::to_floats(problem.v);
  for (size_t i = 0; i < o.size(); ++i) EXPECT_EQ(o[i], v[i % 24]);
}

TEST(KvCacheTest, AppendTransposesKeysAndKeepsValues) {
  const AttentionProblem problem({2, 2, 3, 5, DType::kBF16}, {35});
  ExecContext ctx(2);
  AttentionRunner runner(problem, 5);
  runner.run(ctx, 9);
  const bf16* keys = runner.cache().keys.data<bf16>();
  const bf16* values = runner.cache().values.data<bf16>();
  for (int64_t t = 0; t < 35; ++t)
    for (int64_t head = 0; head < 2; ++head) {
      const int64_t slot = runner.table(0)[static_cast<size_t>(t / kKvBlock)] * 2 + head;
      for (int64_t d = 0; d < 3; ++d)
        EXPECT_EQ(keys[(slot * 3 + d) * kKvBlock + t % kKvBlock].bits,
                  problem.k.data<bf16>()[(t * 2 + head) * 3 + d].bits);
      for (int64_t d = 0; d < 5; ++d)
        EXPECT_EQ(values[(slot * kKvBlock + t % kKvBlock) * 5 + d].bits,
                  problem.v.data<bf16>()[(t * 2 + head) * 5 + d].bits);
    }
}

TEST(KvCacheTest, ACopiedBlockServesInPlaceOfTheOriginal) {
  const AttentionProblem problem({2, 1, 8, 8, DType::kF32}, {20});
  ExecContext ctx(1);
  AttentionRunner runner(problem, 1);
  const AttentionResult first = runner.run(ctx, kWhole);
  const int32_t from = runner.table(0)[0], to = from == 0 ? 1 : 0;
  kv_copy_block(ctx, runner.cache(), from, to);
  Tensor o = Tensor::zeros(first.o.shape(), DType::kF32);
  const AttentionSegment segment{0, 20, 0, {&to, 1}};
  attention_forward(ctx, problem.q, runner.cache(), std::span(&segment, 1), problem.scale, o,
                    nullptr);
  EXPECT_TRUE(same_bits(o, first.o));
}

class AttentionArgumentsTest : public ::testing::Test {
 protected:
  void expect_refused(const std::string& part) {
    const AttentionSegment segment{0, num_rows_, start_, table_};
    EXPECT_THAT([&] { attention_forward(ctx_, q_, cache_, std::span(&segment, 1), 1, o_, &lse_); },
                ThrowsMessage<std::invalid_argument>(HasSubstr("attention_forward: " + part)));
  }
  ExecContext ctx_{1};
  PagedKv cache_ = make_paged_kv(4, 1, 8, 6, DType::kF32);
  Tensor q_ = Tensor::zeros({40, 2, 8}, DType::kF32), o_ = Tensor::zeros({40, 2, 6}, DType::kF32);
  Tensor lse_ = Tensor::zeros({40, 2}, DType::kF32);
  std::vector<int32_t> table_ = {3, 1};
  int64_t num_rows_ = 40, start_ = 0;
};

TEST_F(AttentionArgumentsTest, ShapesAreNamed) {
  q_ = Tensor::zeros({40, 2, 9}, DType::kF32);
  expect_refused("q is [40, 2, 9], expected [40, 2, 8]");
  q_ = Tensor::zeros({40, 2, 8}, DType::kF32);
  o_ = Tensor::zeros({40, 2, 8}, DType::kF32);
  expect_refused("o is [40, 2, 8], expected [40, 2, 6]");
  o_ = Tensor::zeros({40, 2, 6}, DType::kF32);
  lse_ = Tensor::zeros({40}, DType::kF32);
  expect_refused("lse is [40], expected [40, 2]");
}
TEST_F(AttentionArgumentsTest, TypesAreNamed) {
  q_ = Tensor::zeros({40, 2, 8}, DType::kBF16);
  expect_refused("q is bf16, expected f32");
  q_ = Tensor::zeros({40, 2, 8}, DType::kF32);
  o_ = Tensor::zeros({40, 2, 6}, DType::kBF16);
  expect_refused("o is bf16, expected f32");
}
TEST_F(AttentionArgumentsTest, HeadsMustBeAMultiple) {
  cache_ = make_paged_kv(4, 4, 8, 6, DType::kF32);
  expect_refused("q has 2 heads, expected a multiple of the key heads, 4");
}
TEST_F(AttentionArgumentsTest, SegmentsMustFit) {
  num_rows_ = 41;
  expect_refused("segments[0] has rows [0, 41), expected within [0, 40)");
  num_rows_ = 40;
  start_ = -1;
  expect_refused("segments[0].start is -1");
  start_ = 25;
  expect_refused("segments[0].block_table has 2 blocks, expected at least 3");
  start_ = 0;
  table_[1] = 4;
  expect_refused("segments[0].block_table[1] is 4, expected in [0, 4)");
}
TEST_F(AttentionArgumentsTest, AppendAndCopyCheckTheirs) {
  const Tensor k = Tensor::zeros({40, 1, 8}, DType::kF32),
               v = Tensor::zeros({40, 1, 5}, DType::kF32);
  EXPECT_THAT([&] { kv_append(ctx_, k, v, {}, cache_); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("kv_append: v is [40, 1, 5]")));
  EXPECT_THAT([&] { kv_copy_block(ctx_, cache_, 0, 4); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("kv_copy_block: to is 4")));
  EXPECT_THROW(make_paged_kv(1, 0, 1, 1, DType::kF32), std::invalid_argument);
  EXPECT_THROW(make_paged_kv(1, 1, 8, 9, DType::kF32, KvValues::kInKeys), std::invalid_argument);
}

}  // namespace
}  // namespace moerl::kernels
