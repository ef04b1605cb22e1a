#include "kernels/norm/elementwise.h"

#include "kernels/norm/bias.h"
#include "kernels/norm/bias_impl.h"
#include "kernels/norm/elementwise_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

class ElementwiseCudaTest : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t>> {};

TEST_P(ElementwiseCudaTest, AddAndCastHaveTheBitsOfTheCpu) {
  const auto [dtype, rows, width] = GetParam();
  ExecContext cpu(1);
  const Tensor x = random_tensor({rows, width}, dtype, 1),
               before = random_tensor({rows, width}, dtype, 2);
  Tensor sum = before.clone();
  add_inplace(cpu, x, sum);
  for_each_order([&, dtype = dtype] {
    const OnDevice x_(x), sum_(before);
    cuda_ops<ElementwiseCuda>().add(dtype, x_.raw(), sum_.raw(), x.numel());
    EXPECT_BITS(sum_, sum);
    for (DType to : {DType::kF32, DType::kBF16}) {
      Tensor converted = cpu.empty(x.shape(), to);
      cast(cpu, x, converted);
      const OnDevice converted_(x.shape(), to);
      cuda_ops<ElementwiseCuda>().cast(dtype, x_.raw(), to, converted_.raw(), x.numel());
      EXPECT_BITS(converted_, converted);
    }
  });
}

TEST_P(ElementwiseCudaTest, BiasHasTheBitsOfTheCpu) {
  const auto [dtype, rows, width] = GetParam();
  ExecContext cpu(1);
  const Tensor x = random_tensor({rows, width}, DType::kF32, 1),
               bias = random_tensor({width}, DType::kF32, 2);
  const Tensor dy = random_tensor({rows, width}, dtype, 3);
  Tensor y = cpu.empty(x.shape(), dtype), dbias = bias.clone();
  bias_forward(cpu, x, bias, y);
  bias_backward(cpu, dy, dbias);
  for_each_order([&, dtype = dtype, rows = rows, width = width] {
    const OnDevice x_(x), bias_(bias), dy_(dy), y_(x.shape(), dtype);
    cuda_ops<BiasCuda>().forward(x_.data(), bias_.data(), dtype, y_.raw(), rows, width);
    EXPECT_BITS(y_, y);
    cuda_ops<BiasCuda>().backward(dtype, dy_.raw(), rows, width, bias_.data());
    EXPECT_BITS(bias_, dbias);
  });
}

INSTANTIATE_TEST_SUITE_P(Shapes, ElementwiseCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 9),
                                            ::testing::Values(1, 37, 64)));

}  // namespace
}  // namespace moerl::kernels
