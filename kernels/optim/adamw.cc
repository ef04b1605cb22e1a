#include "kernels/optim/adamw.h"

#include <numeric>
#include <vector>

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/optim/adamw_impl.h"

namespace moerl::kernels {
namespace {

constexpr int64_t kUpdateBlock = 32768;

void check_state(const char* name, const Tensor& tensor, const Tensor& grad) {
  check(tensor.defined(), "adamw: ", name, " is undefined");
  check_dtype("adamw", name, tensor, DType::kF32);
  check(tensor.numel() == grad.numel(), "adamw: ", name, " is ", tensor.shape(),
        ", expected as many elements as grad ", grad.shape());
}

void check_step(const AdamWStep& step) {
  check(step.beta1 >= 0 && step.beta1 < 1, "adamw: beta1 is ", step.beta1, ", expected [0, 1)");
  check(step.beta2 >= 0 && step.beta2 < 1, "adamw: beta2 is ", step.beta2, ", expected [0, 1)");
  check(step.eps > 0, "adamw: eps is ", step.eps, ", expected > 0");
  check(step.bias_correction1 > 0, "adamw: bias_correction1 is ", step.bias_correction1,
        ", expected > 0");
  check(step.bias_correction2 > 0, "adamw: bias_correction2 is ", step.bias_correction2,
        ", expected > 0");
}

double sum_of_squares_cpu(ExecContext& ctx, std::span<const Tensor* const> grads) {
  struct Block {
    const float* values;
    int64_t count;
  };
  std::vector<Block> blocks;
  for (const Tensor* grad : grads)
    for (int64_t i = 0; i < grad->numel(); i += kSumBlock)
      blocks.push_back({grad->data<float>() + i, std::min(kSumBlock, grad->numel() - i)});
  std::vector<double> sums(blocks.size());
  dispatch_isa(ctx.isa(), [&]<Isa isa>() {
    ctx.pool().parallel_for(static_cast<int64_t>(blocks.size()), [&](int64_t b) {
      const Block& block = blocks[static_cast<size_t>(b)];
      sums[static_cast<size_t>(b)] = AdamWCpu<isa>::sum_of_squares(block.values, block.count);
    });
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

/// The same blocks in the same order.
double sum_of_squares_cuda(ExecContext& ctx, std::span<const Tensor* const> grads) {
  int64_t blocks = 0;
  for (const Tensor* grad : grads) blocks += (grad->numel() + kSumBlock - 1) / kSumBlock;
  Tensor sums = ctx.empty({blocks}, DType::kF64), total = ctx.empty({1}, DType::kF64);
  double* next = sums.data<double>(Device::kCuda);
  for (const Tensor* grad : grads) {
    cuda_ops<AdamWCuda>().sum_of_squares(grad->data<float>(Device::kCuda), grad->numel(), next);
    next += (grad->numel() + kSumBlock - 1) / kSumBlock;
  }
  cuda_ops<AdamWCuda>().add_up(sums.data<double>(Device::kCuda), blocks,
                               total.data<double>(Device::kCuda));
  return *total.to(Device::kCpu).data<double>();
}

}  // namespace

void adamw(ExecContext& ctx, const AdamWStep& step, const Tensor& grad, Tensor& weight, Tensor& m,
           Tensor& v) {
  check(grad.defined(), "adamw: grad is undefined");
  check_dtype("adamw", "grad", grad, DType::kF32);
  check_state("weight", weight, grad);
  check_state("m", m, grad);
  check_state("v", v, grad);
  check_step(step);
  const Device device = ctx.device();
  const float* g = grad.data<float>(device);
  float *w = weight.data<float>(device), *mean = m.data<float>(device),
        *variance = v.data<float>(device);
  switch (device) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, grad.numel(), kUpdateBlock, [&](int64_t begin, int64_t end) {
          AdamWCpu<isa>::update(step, g + begin, w + begin, mean + begin, variance + begin,
                                end - begin);
        });
      });
    case Device::kCuda:
      return cuda_ops<AdamWCuda>().update(step, g, w, mean, variance, grad.numel());
  }
}

double sum_of_squares(ExecContext& ctx, std::span<const Tensor* const> grads) {
  for (size_t i = 0; i < grads.size(); ++i) {
    check(grads[i] != nullptr && grads[i]->defined(), "sum_of_squares: grads[", i,
          "] is undefined");
    check(grads[i]->dtype() == DType::kF32, "sum_of_squares: grads[", i, "] is ",
          dtype_name(grads[i]->dtype()), ", expected f32");
  }
  switch (ctx.device()) {
    case Device::kCpu:
      return sum_of_squares_cpu(ctx, grads);
    case Device::kCuda:
      return sum_of_squares_cuda(ctx, grads);
  }
  return 0;
}

}  // namespace moerl::kernels
