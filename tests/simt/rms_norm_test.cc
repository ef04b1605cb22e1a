#include "kernels/norm/rms_norm.h"

#include "kernels/norm/rms_norm_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

constexpr float kEps = 1e-6f;

class RmsNormCudaTest : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t>> {};

TEST_P(RmsNormCudaTest, ForwardHasTheBitsOfTheCpu) {
  const auto [dtype, rows, dim] = GetParam();
  const Tensor x = random_tensor({rows, dim}, dtype, 1);
  const Tensor weight = random_tensor({dim}, DType::kF32, 3);
  ExecContext cpu(1);
  Tensor y = cpu.empty(x.shape(), dtype), rstd = cpu.empty({rows}, DType::kF32);
  rms_norm_forward(cpu, x, weight, kEps, y, &rstd);
  for_each_order([&, dtype = dtype, rows = rows, dim = dim] {
    const OnDevice dx(x), dweight(weight), dy(x.shape(), dtype), drstd(rstd.shape(), DType::kF32);
    cuda_ops<RmsNormCuda>().forward(
        {dtype, dim, kEps, dweight.data(), dx.raw(), nullptr, dy.raw(), drstd.data()}, rows);
    EXPECT_BITS(dy, y);
    EXPECT_BITS(drstd, rstd);
    EXPECT_BITS(dx, x);
  });
}

TEST_P(RmsNormCudaTest, FusedAddHasTheBitsOfTheCpu) {
  const auto [dtype, rows, dim] = GetParam();
  const Tensor before = random_tensor({rows, dim}, dtype, 1);
  const Tensor delta = random_tensor({rows, dim}, dtype, 2);
  const Tensor weight = random_tensor({dim}, DType::kF32, 3);
  ExecContext cpu(1);
  Tensor residual = before.clone(), y = cpu.empty(before.shape(), dtype);
  add_rms_norm_forward(cpu, residual, delta, weight, kEps, y, nullptr);
  for_each_order([&, dtype = dtype, rows = rows, dim = dim] {
    const OnDevice dresidual(before), ddelta(delta), dweight(weight), dy(y.shape(), dtype);
    cuda_ops<RmsNormCuda>().forward(
        {dtype, dim, kEps, dweight.data(), dresidual.raw(), ddelta.raw(), dy.raw(), nullptr}, rows);
    EXPECT_BITS(dresidual, residual);
    EXPECT_BITS(dy, y);
  });
}

TEST_P(RmsNormCudaTest, BackwardHasTheBitsOfTheCpu) {
  const auto [dtype, rows, dim] = GetParam();
  const Tensor x = random_tensor({rows, dim}, dtype, 1), dy = random_tensor({rows, dim}, dtype, 2);
  const Tensor weight = random_tensor({dim}, DType::kF32, 3);
  const Tensor rstd = random_tensor({rows}, DType::kF32, 4, 0.5f, 2);
  const Tensor before = random_tensor({rows, dim}, dtype, 5);
  ExecContext cpu(1);
  for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
    Tensor dx = before.clone(), dweight = weight.clone();
    rms_norm_backward(cpu, dy, x, weight, rstd, dx, dweight, write);
    for_each_order([&, dtype = dtype, rows = rows, dim = dim] {
      const OnDevice x_(x), dy_(dy), weight_(weight), rstd_(rstd), dx_(before), dweight_(weight);
      const OnDevice partials({(rows + 63) / 64, dim}, DType::kF32);
      cuda_ops<RmsNormCuda>().backward({dtype, dim, write == Write::kAccumulate, weight_.data(),
                                        rstd_.data(), dy_.raw(), x_.raw(), dx_.raw()},
                                       rows, partials.data(), dweight_.data());
      EXPECT_BITS(dx_, dx);
      EXPECT_BITS(dweight_, dweight);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RmsNormCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 131),
                                            ::testing::Values(1, 64, 217)));

}  // namespace
}  // namespace moerl::kernels
