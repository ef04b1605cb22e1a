#include "kernels/embedding/embedding.h"

#include "kernels/embedding/embedding_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

class EmbeddingCudaTest : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t>> {};

// Three hundred tokens are more than a block selects at a time, and ids repeat.
TEST_P(EmbeddingCudaTest, HasTheBitsOfTheCpu) {
  const auto [dtype, tokens, dim] = GetParam();
  ExecContext cpu(1);
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < tokens; ++t) ids.push_back(static_cast<int32_t>(t * t % 11));
  const Tensor table = random_tensor({12, dim}, DType::kF32, 1),
               dy = random_tensor({tokens, dim}, dtype, 2);
  Tensor y = cpu.empty(dy.shape(), dtype), dtable = table.clone();
  embedding_forward(cpu, table, ids, y);
  embedding_backward(cpu, dy, ids, dtable);
  for_each_order([&, dtype = dtype, tokens = tokens, dim = dim] {
    const OnDevice table_(table), dy_(dy), y_(dy.shape(), dtype);
    const ArrayOnDevice<int32_t> ids_(ids);
    cuda_ops<EmbeddingCuda>().forward(DType::kF32, table_.raw(), dim, ids_.data(), tokens, dtype,
                                      y_.raw());
    EXPECT_BITS(y_, y);
    cuda_ops<EmbeddingCuda>().backward(dtype, dy_.raw(), dim, ids_.data(), tokens, table_.data());
    EXPECT_BITS(table_, dtable);
  });
}

INSTANTIATE_TEST_SUITE_P(Shapes, EmbeddingCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 300),
                                            ::testing::Values(1, 19)));

}  // namespace
}  // namespace moerl::kernels
