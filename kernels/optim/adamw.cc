#include "kernels/optim/adamw.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cuda/backend.h"
#include "kernels/list.h"
#include "kernels/optim/adamw_impl.h"

namespace moerl::kernels {
namespace {

constexpr int64_t kUpdateBlock = 32768;

void check_runs(std::span<const AdamWRun> runs) {
  for (size_t i = 0; i < runs.size(); ++i) {
    const AdamWRun& run = runs[i];
    const std::pair<const char*, const Tensor*> tensors[] = {
        {"grad", &run.grad}, {"weight", &run.weight}, {"m", &run.m}, {"v", &run.v}};
    for (const auto& [name, tensor] : tensors) {
      check(tensor->defined(), "adamw: runs[", i, "].", name, " is undefined");
      check(tensor->dtype() == DType::kF32, "adamw: runs[", i, "].", name, " is ",
            dtype_name(tensor->dtype()), ", expected f32");
      check(tensor->numel() == run.grad.numel(), "adamw: runs[", i, "].", name, " is ",
            tensor->shape(), ", expected as many elements as grad ", run.grad.shape());
    }
  }
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

int64_t num_blocks(const Tensor& tensor) { return (tensor.numel() + kSumBlock - 1) / kSumBlock; }

void adamw_cpu(ExecContext& ctx, const AdamWStep& step, std::span<AdamWRun> runs) {
  struct Block {
    AdamWRun* run;
    int64_t begin, count;
  };
  std::vector<Block> blocks;
  for (AdamWRun& run : runs)
    for (int64_t i = 0; i < run.grad.numel(); i += kUpdateBlock)
      blocks.push_back({&run, i, std::min(kUpdateBlock, run.grad.numel() - i)});
  dispatch_isa(ctx.isa(), [&]<Isa isa>() {
    ctx.pool().parallel_for(static_cast<int64_t>(blocks.size()), [&](int64_t b) {
      const auto [run, begin, count] = blocks[static_cast<size_t>(b)];
      AdamWStep of_run = step;
      if (!run->decays) of_run.weight_decay = 0;
      AdamWCpu<isa>::update(of_run, run->grad.data<float>() + begin,
                            run->weight.data<float>() + begin, run->m.data<float>() + begin,
                            run->v.data<float>() + begin, count);
    });
  });
}

void adamw_cuda(ExecContext& ctx, const AdamWStep& step, std::span<AdamWRun> runs) {
  const Device cuda = Device::kCuda;
  std::vector<AdamWRunCuda> table;
  int64_t blocks = 0;
  for (AdamWRun& run : runs) {
    table.push_back({run.grad.data<float>(cuda), run.weight.data<float>(cuda),
                     run.m.data<float>(cuda), run.v.data<float>(cuda), run.grad.numel(), blocks,
                     run.decays ? step.weight_decay : 0.0f, 0.0f});
    blocks += num_blocks(run.grad);
  }
  const Tensor on_device = upload(ctx, std::span<const AdamWRunCuda>(table));
  cuda_ops<AdamWCuda>().update(step, static_cast<const AdamWRunCuda*>(on_device.raw(cuda)),
                               static_cast<int64_t>(table.size()), blocks);
}

std::vector<double> block_squares_cpu(ExecContext& ctx, std::span<const Tensor> grads) {
  struct Block {
    const float* values;
    int64_t count;
  };
  std::vector<Block> blocks;
  for (const Tensor& grad : grads)
    for (int64_t i = 0; i < grad.numel(); i += kSumBlock)
      blocks.push_back({grad.data<float>() + i, std::min(kSumBlock, grad.numel() - i)});
  std::vector<double> sums(blocks.size());
  dispatch_isa(ctx.isa(), [&]<Isa isa>() {
    ctx.pool().parallel_for(static_cast<int64_t>(blocks.size()), [&](int64_t b) {
      const Block& block = blocks[static_cast<size_t>(b)];
      sums[static_cast<size_t>(b)] = AdamWCpu<isa>::sum_of_squares(block.values, block.count);
    });
  });
  return sums;
}

std::vector<double> block_squares_cuda(ExecContext& ctx, std::span<const Tensor> grads) {
  std::vector<SquaresRunCuda> table;
  int64_t blocks = 0;
  for (const Tensor& grad : grads) {
    table.push_back({grad.data<float>(Device::kCuda), grad.numel(), blocks});
    blocks += num_blocks(grad);
  }
  const Tensor on_device = upload(ctx, std::span<const SquaresRunCuda>(table));
  std::vector<double> sums(static_cast<size_t>(blocks));
  Results<double> results(ctx, sums);
  cuda_ops<AdamWCuda>().block_squares(
      static_cast<const SquaresRunCuda*>(on_device.raw(Device::kCuda)),
      static_cast<int64_t>(table.size()), blocks, results.data());
  results.fetch();
  return sums;
}

}  // namespace

void adamw(ExecContext& ctx, const AdamWStep& step, std::span<AdamWRun> runs) {
  check_runs(runs);
  check_step(step);
  switch (ctx.device()) {
    case Device::kCpu:
      return adamw_cpu(ctx, step, runs);
    case Device::kCuda:
      return adamw_cuda(ctx, step, runs);
  }
}

std::vector<double> block_squares(ExecContext& ctx, std::span<const Tensor> grads) {
  for (size_t i = 0; i < grads.size(); ++i) {
    check(grads[i].defined(), "block_squares: grads[", i, "] is undefined");
    check(grads[i].dtype() == DType::kF32, "block_squares: grads[", i, "] is ",
          dtype_name(grads[i].dtype()), ", expected f32");
  }
  switch (ctx.device()) {
    case Device::kCpu:
      return block_squares_cpu(ctx, grads);
    case Device::kCuda:
      return block_squares_cuda(ctx, grads);
  }
  return {};
}

double sum_of_squares(ExecContext& ctx, std::span<const Tensor> grads) {
  const std::vector<double> sums = block_squares(ctx, grads);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace moerl::kernels
