#include "kernels/optim/adamw.h"

#include "kernels/optim/adamw_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

TEST(AdamWCudaTest, UpdateHasTheBitsOfTheCpu) {
  ExecContext cpu(1);
  const AdamWStep step{.lr = 0.01f,
                       .weight_decay = 0.1f,
                       .bias_correction1 = 0.1f,
                       .bias_correction2 = 0.05f,
                       .grad_scale = 0.3f};
  const Tensor grad = random_tensor({300}, DType::kF32, 1),
               weight = random_tensor({300}, DType::kF32, 2);
  const Tensor m = random_tensor({300}, DType::kF32, 3),
               v = random_tensor({300}, DType::kF32, 4, 0, 1);
  Tensor new_weight = weight.clone(), new_m = m.clone(), new_v = v.clone();
  adamw(cpu, step, grad, new_weight, new_m, new_v);
  for_each_order([&] {
    const OnDevice grad_(grad), weight_(weight), m_(m), v_(v);
    cuda_ops<AdamWCuda>().update(step, grad_.data(), weight_.data(), m_.data(), v_.data(), 300);
    EXPECT_BITS(weight_, new_weight);
    EXPECT_BITS(m_, new_m);
    EXPECT_BITS(v_, new_v);
  });
}

// Blocks that are partial, and more than one device block's share of them.
TEST(AdamWCudaTest, SumOfSquaresHasTheBitsOfTheCpu) {
  ExecContext cpu(1);
  for (int64_t count : {int64_t{0}, int64_t{1}, int64_t{37}, 17 * kSumBlock + 5}) {
    const Tensor grad = random_tensor({count}, DType::kF32, 1);
    const Tensor* grads[] = {&grad};
    const double expected = sum_of_squares(cpu, grads);
    for_each_order([&] {
      const int64_t blocks = (count + kSumBlock - 1) / kSumBlock;
      const OnDevice grad_(grad);
      const ArrayOnDevice<double> sums_(std::vector<double>(static_cast<size_t>(blocks), -1)),
          total_({-1.0});
      cuda_ops<AdamWCuda>().sum_of_squares(grad_.data(), count, sums_.data());
      cuda_ops<AdamWCuda>().add_up(sums_.data(), blocks, total_.data());
      EXPECT_EQ(total_.to_host()[0], expected);
    });
  }
}

}  // namespace
}  // namespace moerl::kernels
