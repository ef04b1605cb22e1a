#include "kernels/embedding/embedding.h"

#include <gtest/gtest.h>

#include <tuple>

#include "kernels/embedding/embedding_ref.h"
#include "kernels/norm/elementwise.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::to_doubles;
using testing::to_floats;

constexpr int64_t kVocab = 13;

class EmbeddingTest : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t>> {
 protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  int64_t dim() const { return std::get<2>(GetParam()); }
  // Repeated ids, and ids that never occur.
  std::vector<int32_t> ids() const {
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < std::get<1>(GetParam()); ++t)
      ids.push_back(static_cast<int32_t>(t * t % 11));
    return ids;
  }
  int64_t rows() const { return std::get<1>(GetParam()); }
  Tensor table_ = random_tensor({kVocab, dim()}, DType::kF32, 1);
  Tensor dy_ = random_tensor({rows(), dim()}, dtype(), 2);
  ExecContext ctx_{2};
};

TEST_P(EmbeddingTest, ForwardCopiesTheRowsRoundedOnce) {
  Tensor y = ctx_.empty({rows(), dim()}, dtype());
  embedding_forward(ctx_, table_, ids(), y);
  const std::vector<double> expected = ref::embedding(to_doubles(table_), dim(), ids());
  const std::vector<float> got = to_floats(y);
  for (size_t i = 0; i < got.size(); ++i) {
    const auto value = static_cast<float>(expected[i]);
    ASSERT_EQ(got[i], dtype() == DType::kBF16 ? to_float(to_bf16(value)) : value);
  }
}

TEST_P(EmbeddingTest, ATableOfTheOutputsTypeGivesTheSameBits) {
  Tensor y = ctx_.empty({rows(), dim()}, dtype()), same = ctx_.empty({rows(), dim()}, dtype());
  embedding_forward(ctx_, table_, ids(), y);
  Tensor table = ctx_.empty(table_.shape(), dtype());
  cast(ctx_, table_, table);
  embedding_forward(ctx_, table, ids(), same);
  EXPECT_TRUE(testing::same_bits(same, y));
}

TEST_P(EmbeddingTest, BackwardEqualsReferenceAndAccumulates) {
  Tensor dtable = ctx_.zeros({kVocab, dim()}, DType::kF32);
  embedding_backward(ctx_, dy_, ids(), dtable);
  std::vector<double> expected = ref::embedding_backward(to_doubles(dy_), kVocab, dim(), ids());
  EXPECT_TRUE(testing::all_near(dtable, expected, testing::sum_tolerance(DType::kF32, 1 + rows())));
  embedding_backward(ctx_, dy_, ids(), dtable);
  for (double& value : expected) value *= 2;
  EXPECT_TRUE(
      testing::all_near(dtable, expected, testing::sum_tolerance(DType::kF32, 4 + 4 * rows())));
}

TEST_P(EmbeddingTest, EveryLevelAndThreadCountGivesTheSameBits) {
  EXPECT_TRUE(testing::same_bits_everywhere([&](ExecContext& ctx) {
    Tensor y = ctx.empty({rows(), dim()}, dtype());
    Tensor dtable = ctx.zeros({kVocab, dim()}, DType::kF32);
    embedding_forward(ctx, table_, ids(), y);
    embedding_backward(ctx, dy_, ids(), dtable);
    return std::vector<Tensor>{y, dtable};
  }));
}

INSTANTIATE_TEST_SUITE_P(Shapes, EmbeddingTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 5, 90),
                                            ::testing::Values(1, 5, 16, 17, 100, 200)));

TEST(EmbeddingArgumentTest, WrongArgumentsAreNamed) {
  ExecContext ctx(1);
  Tensor table = ctx.zeros({4, 8}, DType::kF32), y = ctx.zeros({2, 8}, DType::kF32);
  const std::vector<int32_t> ids = {0, 3}, high = {0, 4}, negative = {-1, 0}, one = {0};
  EXPECT_INVALID_ARGUMENT(embedding_forward(ctx, table, high, y), "ids[1] is 4");
  EXPECT_INVALID_ARGUMENT(embedding_forward(ctx, table, negative, y), "ids[0] is -1");
  EXPECT_INVALID_ARGUMENT(embedding_forward(ctx, table, one, y), "y is [2, 8]");
  const Tensor rounded = ctx.zeros({4, 8}, DType::kBF16);
  EXPECT_INVALID_ARGUMENT(embedding_forward(ctx, rounded, ids, y), "table is bf16, expected f32");
  EXPECT_INVALID_ARGUMENT(embedding_backward(ctx, y, high, table), "ids[1] is 4");
  EXPECT_INVALID_ARGUMENT(embedding_backward(ctx, table, ids, table), "dy is [4, 8]");
}

}  // namespace
}  // namespace moerl::kernels
