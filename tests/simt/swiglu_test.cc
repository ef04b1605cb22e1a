#include "kernels/activation/swiglu.h"

#include "kernels/activation/swiglu_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

class SwigluCudaTest : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t>> {};

TEST_P(SwigluCudaTest, HasTheBitsOfTheCpu) {
  const auto [dtype, rows, inner] = GetParam();
  // Wide enough that silu saturates at both ends.
  const Tensor gate_up = random_tensor({rows, 2 * inner}, dtype, 1, -100, 100);
  const Tensor dhidden = random_tensor({rows, inner}, dtype, 2);
  ExecContext cpu(1);
  Tensor hidden = cpu.empty({rows, inner}, dtype), dgate_up = cpu.empty(gate_up.shape(), dtype);
  swiglu_forward(cpu, gate_up, hidden);
  swiglu_backward(cpu, dhidden, gate_up, dgate_up);
  for_each_order([&, dtype = dtype, rows = rows, inner = inner] {
    const OnDevice gate_up_(gate_up), dhidden_(dhidden), hidden_(hidden.shape(), dtype);
    const OnDevice dgate_up_(gate_up.shape(), dtype);
    cuda_ops<SwigluCuda>().forward(dtype, inner, rows, gate_up_.raw(), hidden_.raw());
    cuda_ops<SwigluCuda>().backward(dtype, inner, rows, dhidden_.raw(), gate_up_.raw(),
                                    dgate_up_.raw());
    EXPECT_BITS(hidden_, hidden);
    EXPECT_BITS(dgate_up_, dgate_up);
  });
}

INSTANTIATE_TEST_SUITE_P(Shapes, SwigluCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 7),
                                            ::testing::Values(1, 16, 37, 256)));

}  // namespace
}  // namespace moerl::kernels
