#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"
#include "kernels/optim/adamw_impl.h"

namespace moerl::kernels::cuda {
namespace {

/// The run that a block belongs to: the last one that begins at or before it.
template <typename Run>
__device__ Run run_of(const Run* runs, int64_t num_runs, int64_t block) {
  int64_t low = 0, high = num_runs;  // in [low, high)
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (runs[middle].first_block <= block ? low : high) = middle;
  }
  return runs[low];
}

__global__ void __launch_bounds__(kThreads)
    update_kernel(AdamWStep step, const AdamWRunCuda* runs, int64_t num_runs) {
  const AdamWRunCuda run = run_of(runs, num_runs, blockIdx.x);
  const float rest1 = 1.0f - step.beta1, rest2 = 1.0f - step.beta2;
  const float correct1 = 1.0f / step.bias_correction1, correct2 = 1.0f / step.bias_correction2;
  const int64_t begin = (blockIdx.x - run.first_block) * kSumBlock;
  const int64_t end = begin + kSumBlock < run.count ? begin + kSumBlock : run.count;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const float g = run.grad[i] * step.grad_scale, w = run.weight[i];
    const float new_m = fma(step.beta1, run.m[i], rest1 * g);
    const float new_v = fma(step.beta2, run.v[i], rest2 * g * g);
    const float direction = new_m * correct1 / (sqrt(new_v * correct2) + step.eps);
    run.m[i] = new_m;
    run.v[i] = new_v;
    run.weight[i] = fma(-step.lr, fma(run.weight_decay, w, direction), w);
  }
}

void update(const AdamWStep& step, const AdamWRunCuda* runs, int64_t num_runs, int64_t num_blocks) {
  launch("adamw", update_kernel, {static_cast<unsigned>(num_blocks), kThreads}, step, runs,
         num_runs);
}

/// Half a warp a block of kSumBlock values.
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const SquaresRunCuda* runs, int64_t num_runs, int64_t num_blocks, double* sums) {
  const int64_t block = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 16;
  double sum = 0;
  if (block < num_blocks) {
    const SquaresRunCuda run = run_of(runs, num_runs, block);
    const int64_t begin = (block - run.first_block) * kSumBlock;
    const int64_t end = begin + kSumBlock < run.count ? begin + kSumBlock : run.count;
    for (int64_t i = begin + threadIdx.x % 16; i < end; i += 16) {
      const double value = run.values[i];
      sum += value * value;
    }
  }
  for (int half = 8; half >= 1; half /= 2) sum += __shfl_xor_sync(~0u, sum, half);
  if (threadIdx.x % 16 == 0 && block < num_blocks) sums[block] = sum;
}

void block_squares(const SquaresRunCuda* runs, int64_t num_runs, int64_t num_blocks, double* sums) {
  launch("block_squares", sum_kernel, {blocks_for(num_blocks, kThreads / 16), kThreads}, runs,
         num_runs, num_blocks, sums);
}

const RegisterCudaOps<AdamWCuda> registered({update, block_squares});

}  // namespace
}  // namespace moerl::kernels::cuda
