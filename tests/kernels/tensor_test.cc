#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/testing/same_bits.h"

namespace moerl {
namespace {

TEST(TensorTest, MemoryOfEverySizeIsGivenBackAndTakenAgain) {
  for (int round = 0; round < 2; ++round) {
    std::vector<Tensor> tensors;
    for (int64_t kib : {1, 64, 65, 1000, 2048, 4096, 6144, 9000})
      for (int copy = 0; copy < 3; ++copy) {
        tensors.push_back(Tensor::zeros({kib * 256}, DType::kF32));
        tensors.back().data<float>()[kib * 256 - 1] = 1;
      }
    tensors.clear();
    Tensor::release_cache();
  }
}

TEST(TensorTest, LiveTensorsKeepTheirMemoryWhenTheCacheIsReleased) {
  const auto of_size = [](int64_t numel, float value) {
    Tensor tensor = Tensor::empty({numel}, DType::kF32);
    for (int64_t i = 0; i < numel; ++i) tensor.data<float>()[i] = value;
    return tensor;
  };
  for (int64_t numel : {int64_t{100}, int64_t{1} << 15, int64_t{1} << 19, int64_t{1} << 20}) {
    Tensor dropped = of_size(numel, 1);
    const Tensor kept = of_size(numel, 2);
    dropped = Tensor();
    Tensor::release_cache();
    const Tensor other = of_size(numel, 3);
    for (int64_t i = 0; i < numel; ++i) ASSERT_EQ(kept.data<float>()[i], 2) << i << " of " << numel;
  }
}

TEST(TensorTest, MemoryIsLentToATensorAndItsViews) {
  Tensor tensor = Tensor::without_memory({4, 3}, DType::kF32);
  Tensor part = tensor.rows(1, 3).view({6});
  EXPECT_TRUE(tensor.defined());
  EXPECT_EQ(part.shape(), (Shape{6}));
  EXPECT_EQ(part.memory_bytes(), 4 * 3 * 4);
  EXPECT_FALSE(part.has_memory());
  EXPECT_INVALID_ARGUMENT(tensor.raw(), "[4, 3] has no memory");
  EXPECT_INVALID_ARGUMENT(part.data<float>(), "[6] has no memory");
  EXPECT_INVALID_ARGUMENT(part.clone(), "has no memory");
  EXPECT_INVALID_ARGUMENT(part.fill_zero(), "has no memory");
  EXPECT_INVALID_ARGUMENT(part.attach(Tensor::empty({11}, DType::kF32)), "at least 48");
  {
    Tensor lender = Tensor::from<float>({12}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    part.attach(lender);
    tensor.data<float>()[4] = 40;
    EXPECT_EQ(lender.data<float>()[4], 40);
  }
  EXPECT_EQ(part.data<float>()[0], 3);  // the lender's memory outlives it
  EXPECT_EQ(part.data<float>()[1], 40);
  EXPECT_INVALID_ARGUMENT(tensor.attach(tensor.clone()), "has memory already");
}

}  // namespace
}  // namespace moerl
