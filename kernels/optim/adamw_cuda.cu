#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"
#include "kernels/optim/adamw_impl.h"

namespace moerl::kernels::cuda {
namespace {

void update(const AdamWStep& step, const float* grad, float* weight, float* m, float* v,
            int64_t count) {
  const float rest1 = 1.0f - step.beta1, rest2 = 1.0f - step.beta2;
  const float correct1 = 1.0f / step.bias_correction1, correct2 = 1.0f / step.bias_correction2;
  launch_each("adamw", count, [=] __device__(int64_t i) {
    const float g = grad[i] * step.grad_scale, w = weight[i];
    const float new_m = fma(step.beta1, m[i], rest1 * g);
    const float new_v = fma(step.beta2, v[i], rest2 * g * g);
    const float direction = new_m * correct1 / (sqrt(new_v * correct2) + step.eps);
    m[i] = new_m;
    v[i] = new_v;
    weight[i] = fma(-step.lr, fma(step.weight_decay, w, direction), w);
  });
}

/// Half a warp a block of kSumBlock values.
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const float* values, int64_t count, double* sums) {
  const int64_t block = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 16;
  const int64_t begin = block * kSumBlock;
  const int64_t end = begin + kSumBlock < count ? begin + kSumBlock : count;
  double sum = 0;
  for (int64_t i = begin + threadIdx.x % 16; i < end; i += 16) {
    const double value = values[i];
    sum += value * value;
  }
  for (int half = 8; half >= 1; half /= 2) sum += __shfl_xor_sync(~0u, sum, half);
  if (threadIdx.x % 16 == 0 && begin < count) sums[block] = sum;
}

void sum_of_squares(const float* values, int64_t count, double* sums) {
  const int64_t blocks = (count + kSumBlock - 1) / kSumBlock;
  launch("sum_of_squares", sum_kernel, {blocks_for(blocks, kThreads / 16), kThreads}, values, count,
         sums);
}

void add_up(const double* sums, int64_t count, double* total) {
  launch_each("sum_of_squares", 1, [=] __device__(int64_t) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += sums[i];
    *total = sum;
  });
}

const RegisterCudaOps<AdamWCuda> registered({update, sum_of_squares, add_up});

}  // namespace
}  // namespace moerl::kernels::cuda
