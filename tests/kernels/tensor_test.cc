#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <vector>

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

}  // namespace
}  // namespace moerl
