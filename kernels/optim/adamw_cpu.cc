#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/optim/adamw_impl.h"

namespace moerl::kernels {

template <>
void AdamWCpu<kIsa>::update(const AdamWStep& step, const float* grad, float* weight, float* m,
                            float* v, int64_t count) {
  const F32x16 scale = set1(step.grad_scale), eps = set1(step.eps), minus_lr = set1(-step.lr);
  const F32x16 beta1 = set1(step.beta1), beta2 = set1(step.beta2);
  const F32x16 rest1 = set1(1.0f - step.beta1), rest2 = set1(1.0f - step.beta2);
  const F32x16 correct1 = set1(1.0f / step.bias_correction1);
  const F32x16 correct2 = set1(1.0f / step.bias_correction2);
  const F32x16 decay = set1(step.weight_decay);
  for_each_lanes(count, [&](int64_t i, int64_t n) MOERL_INLINE_LAMBDA {
    const F32x16 g = load_n(grad + i, n) * scale;
    const F32x16 new_m = fma(beta1, load_n(m + i, n), rest1 * g);
    const F32x16 new_v = fma(beta2, load_n(v + i, n), rest2 * g * g);
    const F32x16 w = load_n(weight + i, n);
    const F32x16 direction = new_m * correct1 / (sqrt(new_v * correct2) + eps);
    store_n(m + i, new_m, n);
    store_n(v + i, new_v, n);
    store_n(weight + i, fma(minus_lr, fma(decay, w, direction), w), n);
  });
}

template <>
double AdamWCpu<kIsa>::sum_of_squares(const float* values, int64_t count) {
  // A product of two floats is exact in fp64, so fusing it into the sum or not gives the same bits.
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  for (int lane = 0; i + lane < count; ++lane) {
    const double value = values[i + lane];
    lanes[lane] += value * value;
  }
  for (int half = kLanes / 2; half >= 1; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

}  // namespace moerl::kernels
