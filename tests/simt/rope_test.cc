#include "kernels/attention/rope.h"

#include "kernels/attention/rope_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

class RopeCudaTest : public ::testing::TestWithParam<std::tuple<DType, RopePairing>> {};

TEST_P(RopeCudaTest, HasTheBitsOfTheCpuForthAndBack) {
  const auto [dtype, pairing] = GetParam();
  ExecContext cpu(1);
  const std::vector<int32_t> positions = {0, 7, 3, 3, 20};
  const int64_t dim = 38, heads = 3, first = 5, width = 47;
  const Tensor table = rope_table({.dim = dim}, 21);
  const Tensor x = random_tensor({5, heads, width}, dtype, 1);
  for (bool inverse : {false, true}) {
    Tensor turned = x.clone();
    (inverse ? rope_backward : rope_forward)(cpu, table, positions, pairing, first, turned);
    for_each_order([&, dtype = dtype, pairing = pairing] {
      const OnDevice x_(x), table_(table);
      const ArrayOnDevice<int32_t> positions_(positions);
      cuda_ops<RopeCuda>().rotate({dtype == DType::kBF16, pairing, table_.data(), positions_.data(),
                                   heads, width, first, dim, x_.raw()},
                                  inverse, 5);
      EXPECT_BITS(x_, turned);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, RopeCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(RopePairing::kInterleaved,
                                                              RopePairing::kHalves)));

}  // namespace
}  // namespace moerl::kernels
