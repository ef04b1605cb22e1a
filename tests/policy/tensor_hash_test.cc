#include "policy/tensor_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace moerl {
namespace {

TEST(TensorHashTest, DependsOnNameShapeAndEveryValue) {
  const Tensor tensor = Tensor::from({3, 7}, std::vector<float>(21, 0.5f));
  const uint64_t hash = tensor_hash("w", tensor);
  EXPECT_EQ(tensor_hash("w", tensor.clone()), hash);
  EXPECT_NE(tensor_hash("v", tensor), hash);
  EXPECT_NE(tensor_hash("w", tensor.view({7, 3})), hash);
  for (int64_t i = 0; i < 21; ++i) {
    Tensor changed = tensor.clone();
    changed.data<float>()[i] = -0.5f;
    EXPECT_NE(tensor_hash("w", changed), hash) << i;
  }
}

TEST(TensorHashTest, IsTheSamePieceByPiece) {
  for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{21}, (int64_t{1} << 14) - 1,
                          int64_t{1} << 14, (int64_t{3} << 14) + 13}) {
    std::vector<float> values(static_cast<size_t>(n));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1013) - 7;
    const Tensor tensor = Tensor::from({n}, values);
    int64_t at = 0;
    const uint64_t hash = tensor_hash("w", {n}, [&](int64_t begin, int64_t end, float* out) {
      EXPECT_EQ(begin, at);
      at = end;
      std::copy(values.begin() + begin, values.begin() + end, out);
    });
    EXPECT_EQ(at, n);
    EXPECT_EQ(hash, tensor_hash("w", tensor)) << n;
  }
}

TEST(TensorHashTest, TheCombinationIgnoresTheOrder) {
  EXPECT_EQ(combine_weights_hash(combine_weights_hash(0, 5), 9),
            combine_weights_hash(combine_weights_hash(0, 9), 5));
}

}  // namespace
}  // namespace moerl
