#include "policy/tensor_hash.h"

#include <gtest/gtest.h>

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

TEST(TensorHashTest, TheCombinationIgnoresTheOrder) {
  EXPECT_EQ(combine_weights_hash(combine_weights_hash(0, 5), 9),
            combine_weights_hash(combine_weights_hash(0, 9), 5));
}

}  // namespace
}  // namespace moerl
