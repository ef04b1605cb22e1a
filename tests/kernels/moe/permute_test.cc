#include "kernels/moe/permute.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/moe/permute_ref.h"
#include "tests/testing/isas.h"
#include "tests/testing/random_tensors.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::same_bits;
using ::testing::ThrowsMessage;
using testing::to_vector;

TEST(SortByExpertTest, SortsStablyAndInverts) {
  const Tensor idx = Tensor::from<int32_t>({3, 2}, {2, 0, 0, 3, 2, 0});
  ExecContext ctx(1);
  const ExpertRows rows = sort_by_expert(ctx, idx, 5);
  EXPECT_THAT(to_vector<int64_t>(rows.offsets), ElementsAre(0, 3, 3, 5, 6, 6));
  EXPECT_THAT(to_vector<int32_t>(rows.slot_of_row), ElementsAre(1, 2, 5, 0, 4, 3));
  EXPECT_THAT(to_vector<int32_t>(rows.row_of_slot), ElementsAre(3, 0, 1, 5, 4, 2));
}
TEST(SortByExpertTest, NoTokens) {
  ExecContext ctx(1);
  const ExpertRows rows = sort_by_expert(ctx, Tensor::empty({0, 2}, DType::kI32), 2);
  EXPECT_THAT(to_vector<int64_t>(rows.offsets), ElementsAre(0, 0, 0));
  EXPECT_EQ(rows.slot_of_row.numel(), 0);
}
TEST(SortByExpertTest, ChecksItsArguments) {
  const Tensor idx = Tensor::from<int32_t>({1, 2}, {2, 5});
  ExecContext ctx(1);
  EXPECT_THAT([&] { sort_by_expert(ctx, idx, 5); },
              ThrowsMessage<std::invalid_argument>(
                  HasSubstr("sort_by_expert: topk_idx[1] is 5, expected in [0, 5)")));
  EXPECT_THROW(sort_by_expert(ctx, Tensor::zeros({2, 2}, DType::kF32), 5), std::invalid_argument);
}

struct PermuteCase {
  DType dtype;
  int64_t dim;
};
class PermuteTest : public ::testing::TestWithParam<PermuteCase> {
 protected:
  static constexpr int64_t kTokens = 41, kTopk = 3, kExperts = 6, kSlots = kTokens * kTopk;
  PermuteTest() {
    std::vector<int32_t> idx;
    for (int32_t t = 0; t < kTokens; ++t)
      for (int32_t k = 0; k < kTopk; ++k) idx.push_back((t * 5 + k * (1 + t % 2)) % kExperts);
    rows_ = sort_by_expert(ctx_, Tensor::from<int32_t>({kTokens, kTopk}, idx), kExperts);
    by_token_ = random_tensor({kTokens, GetParam().dim}, GetParam().dtype, 1);
    by_row_ = random_tensor({kSlots, GetParam().dim}, GetParam().dtype, 2);
    shared_ = random_tensor({kTokens, GetParam().dim}, GetParam().dtype, 3);
    weights_ = random_tensor({kTokens, kTopk}, DType::kF32, 4);
  }
  Tensor like(const Tensor& x) const { return random_tensor(x.shape(), x.dtype(), 99); }
  /// Rows of a token's slots, in slot order.
  std::vector<std::vector<double>> slots(const Tensor& x, int64_t t) const {
    std::vector<std::vector<double>> all;
    for (int64_t k = 0; k < kTopk; ++k) {
      const int64_t row = rows_.row_of_slot.data<int32_t>()[t * kTopk + k];
      all.push_back(testing::to_doubles(x.rows(row, row + 1)));
    }
    return all;
  }
  std::vector<double> token(const Tensor& x, int64_t t) const {
    return testing::to_doubles(x.rows(t, t + 1));
  }
  testing::Tolerance tolerance() const { return testing::sum_tolerance(GetParam().dtype, kTopk); }

  /// Results of every op, for comparisons of bits.
  std::vector<Tensor> all_results(int threads, Isa isa) {
    ExecContext ctx(threads, isa);
    Tensor expanded = like(by_row_), dx = like(by_token_), more = like(by_token_);
    Tensor reduced = like(by_token_), drow = like(by_row_), dweights = like(weights_);
    expand_forward(ctx, by_token_, rows_, kTopk, expanded);
    expand_backward(ctx, by_row_, rows_, kTopk, dx);
    expand_backward(ctx, by_row_, rows_, kTopk, more, Write::kAccumulate);
    reduce_forward(ctx, by_row_, weights_, rows_, &shared_, reduced);
    reduce_backward(ctx, by_token_, by_row_, weights_, rows_, drow, dweights);
    return {expanded, dx, more, reduced, drow, dweights};
  }

  ExecContext ctx_{2};
  ExpertRows rows_;
  Tensor by_token_, by_row_, shared_, weights_;
};
INSTANTIATE_TEST_SUITE_P(Types, PermuteTest,
                         ::testing::Values(PermuteCase{DType::kF32, 64},
                                           PermuteCase{DType::kBF16, 64},
                                           PermuteCase{DType::kF32, 37},
                                           PermuteCase{DType::kBF16, 5}));

TEST_P(PermuteTest, ExpandCopiesEveryTokenToItsSlots) {
  Tensor y = like(by_row_);
  expand_forward(ctx_, by_token_, rows_, kTopk, y);
  for (int64_t r = 0; r < kSlots; ++r) {
    const int64_t t = rows_.slot_of_row.data<int32_t>()[r] / kTopk;
    EXPECT_TRUE(same_bits(y.rows(r, r + 1), by_token_.rows(t, t + 1)));
  }
}

TEST_P(PermuteTest, ExpandBackwardSumsTheSlots) {
  Tensor dx = like(by_token_);
  const Tensor before = dx.clone();
  expand_backward(ctx_, by_row_, rows_, kTopk, dx);
  Tensor more = before.clone();
  expand_backward(ctx_, by_row_, rows_, kTopk, more, Write::kAccumulate);
  for (int64_t t = 0; t < kTokens; ++t) {
    const std::vector<double> zero(static_cast<size_t>(GetParam().dim), 0.0);
    EXPECT_TRUE(testing::all_near(dx.rows(t, t + 1),
                                  ref::combine(zero, {1, 1, 1}, slots(by_row_, t)), tolerance()));
    EXPECT_TRUE(testing::all_near(more.rows(t, t + 1),
                                  ref::combine(token(before, t), {1, 1, 1}, slots(by_row_, t)),
                                  tolerance()));
  }
}

TEST_P(PermuteTest, ReduceEqualsReference) {
  Tensor with = like(by_token_), without = like(by_token_);
  reduce_forward(ctx_, by_row_, weights_, rows_, &shared_, with);
  reduce_forward(ctx_, by_row_, weights_, rows_, nullptr, without);
  for (int64_t t = 0; t < kTokens; ++t) {
    const std::vector<double> zero(static_cast<size_t>(GetParam().dim), 0.0);
    EXPECT_TRUE(testing::all_near(
        with.rows(t, t + 1), ref::combine(token(shared_, t), token(weights_, t), slots(by_row_, t)),
        tolerance()));
    EXPECT_TRUE(testing::all_near(without.rows(t, t + 1),
                                  ref::combine(zero, token(weights_, t), slots(by_row_, t)),
                                  tolerance()));
  }
}

TEST_P(PermuteTest, ReduceBackwardEqualsReference) {
  Tensor dx = like(by_row_), dweights = like(weights_);
  reduce_backward(ctx_, by_token_, by_row_, weights_, rows_, dx, dweights);
  for (int64_t t = 0; t < kTokens; ++t) {
    const ref::CombineGrad expected =
        ref::combine_backward(token(by_token_, t), token(weights_, t), slots(by_row_, t));
    for (int64_t k = 0; k < kTopk; ++k) {
      const int64_t row = rows_.row_of_slot.data<int32_t>()[t * kTopk + k];
      EXPECT_TRUE(testing::all_near(dx.rows(row, row + 1), expected.dx[static_cast<size_t>(k)],
                                    testing::rounding_tolerance(GetParam().dtype)));
    }
    EXPECT_TRUE(testing::all_near(dweights.rows(t, t + 1), expected.dweights,
                                  testing::sum_tolerance(DType::kF32, GetParam().dim)));
  }
}

TEST_P(PermuteTest, BitsDoNotDependOnThreadsOrLevel) {
  const std::vector<Tensor> first = all_results(1, detect_isa());
  for (int threads : {1, 2, 3})
    for (Isa isa : testing::available_isas()) {
      const std::vector<Tensor> other = all_results(threads, isa);
      for (size_t i = 0; i < first.size(); ++i)
        EXPECT_TRUE(same_bits(first[i], other[i])) << "result " << i << " on " << isa_name(isa);
    }
}

TEST(ReduceTest, SumsInSlotOrderWhateverTheExperts) {
  // 2^24 + 1 + 1 is 2^24 when the ones come one by one, 2^24 + 2 when they come first.
  ExecContext ctx(1);
  const Tensor weights = Tensor::from<float>({1, 3}, {1, 1, 1});
  for (const std::vector<int32_t>& idx : {std::vector<int32_t>{0, 1, 2}, {2, 1, 0}, {1, 2, 0}}) {
    const ExpertRows rows = sort_by_expert(ctx, Tensor::from<int32_t>({1, 3}, idx), 3);
    Tensor x = Tensor::empty({3, 1}, DType::kF32), y = Tensor::empty({1, 1}, DType::kF32);
    const float slots[] = {0x1p24f, 1, 1};
    for (size_t k = 0; k < 3; ++k) x.data<float>()[rows.row_of_slot.data<int32_t>()[k]] = slots[k];
    reduce_forward(ctx, x, weights, rows, nullptr, y);
    EXPECT_EQ(y.data<float>()[0], 0x1p24f);
    expand_backward(ctx, x, rows, 3, y);
    EXPECT_EQ(y.data<float>()[0], 0x1p24f);
  }
}

TEST(PermuteArgumentsTest, AreChecked) {
  ExecContext ctx(1);
  const ExpertRows rows = sort_by_expert(ctx, Tensor::from<int32_t>({2, 2}, {0, 1, 1, 0}), 2);
  const Tensor x = Tensor::zeros({2, 5}, DType::kF32);
  Tensor y = Tensor::zeros({3, 5}, DType::kF32), weights = Tensor::zeros({2, 2}, DType::kF32);
  auto says = [](const std::string& text) {
    return ThrowsMessage<std::invalid_argument>(HasSubstr(text));
  };
  EXPECT_THAT([&] { expand_forward(ctx, x, rows, 2, y); },
              says("expand_forward: y is [3, 5], expected [4, 5]"));
  y = Tensor::zeros({4, 5}, DType::kBF16);
  EXPECT_THAT([&] { expand_forward(ctx, x, rows, 2, y); },
              says("expand_forward: y is bf16, expected f32"));
  Tensor out = x.clone();
  y = Tensor::zeros({4, 5}, DType::kF32);
  const Tensor few = Tensor::zeros({1, 5}, DType::kF32);
  EXPECT_THAT([&] { reduce_forward(ctx, y, weights, rows, &few, out); },
              says("reduce_forward: shared is [1, 5], expected [2, 5]"));
  weights = Tensor::zeros({3, 2}, DType::kF32);
  EXPECT_THAT([&] { reduce_forward(ctx, y, weights, rows, nullptr, out); },
              says("reduce_forward: weights is [3, 2], expected [2, 2]"));
  Tensor none = Tensor::empty({0, 5}, DType::kF32), no_rows = Tensor::empty({0, 5}, DType::kF32);
  const ExpertRows of_none = sort_by_expert(ctx, Tensor::empty({0, 2}, DType::kI32), 2);
  EXPECT_NO_THROW(expand_forward(ctx, none, of_none, 2, no_rows));
}

}  // namespace
}  // namespace moerl::kernels
