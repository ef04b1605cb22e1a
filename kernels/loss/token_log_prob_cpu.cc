#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/loss/token_log_prob_impl.h"

namespace moerl::kernels {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

/// z of sixteen tokens; -inf, of probability 0, behind the end of the row.
MOERL_INLINE F32x16 load_scaled(const float* logits, int64_t n, F32x16 scale) {
  if (n == kLanes) return load(logits) * scale;
  float buffer[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) buffer[i] = i < n ? logits[i] : kMinusInfinity;
  return load(buffer) * scale;
}

float row_max(const float* logits, int64_t vocab_size, F32x16 scale) {
  F32x16 m0 = set1(kMinusInfinity), m1 = m0, m2 = m0, m3 = m0;
  int64_t v = 0;
  for (; v + 4 * kLanes <= vocab_size; v += 4 * kLanes) {
    m0 = max(m0, load(logits + v) * scale);
    m1 = max(m1, load(logits + v + kLanes) * scale);
    m2 = max(m2, load(logits + v + 2 * kLanes) * scale);
    m3 = max(m3, load(logits + v + 3 * kLanes) * scale);
  }
  for (; v < vocab_size; v += kLanes)
    m0 = max(m0, load_scaled(logits + v, vocab_size - v < kLanes ? vocab_size - v : kLanes, scale));
  return max_lanes(max(max(m0, m1), max(m2, m3)));
}

struct RowSums {
  F32x16 sum = zero();       // of e^(z - m)
  F32x16 weighted = zero();  // of e^(z - m) (z - m)
};

template <bool kWithEntropy>
MOERL_INLINE void add_tokens(const float* logits, int64_t count, F32x16 scale, F32x16 shift,
                             RowSums& sums) {
  // The floor keeps 0 * -inf out of the entropy; exp is 0 long before it.
  const F32x16 floor = set1(-200.0f);
  for_each_lanes(count, [&](int64_t v, int64_t n) MOERL_INLINE_LAMBDA {
    const F32x16 x = max(floor, load_scaled(logits + v, n, scale) - shift);
    const F32x16 e = exp(x);
    sums.sum = sums.sum + e;
    if constexpr (kWithEntropy) sums.weighted = fma(e, x, sums.weighted);
  });
}

template <bool kWithEntropy>
LogitsRow row_function(const float* logits, int64_t vocab_size, float inverse_temperature,
                       float* prefix, int64_t block) {
  const F32x16 scale = set1(inverse_temperature);
  const float max = row_max(logits, vocab_size, scale);
  const F32x16 shift = set1(max);
  RowSums sums;
  int64_t v = 0;
  if (prefix != nullptr) {
    for (; v + block <= vocab_size; v += block, prefix += kLanes) {
      add_tokens<kWithEntropy>(logits + v, block, scale, shift, sums);
      store(prefix, sums.sum);
    }
  }
  add_tokens<kWithEntropy>(logits + v, vocab_size - v, scale, shift, sums);
  const float sum = sum_lanes(sums.sum);
  const float log_sum = sum == sum ? log_scalar(sum) : sum;  // log is for numbers: NaN stays
  const float entropy = kWithEntropy ? log_sum - sum_lanes(sums.weighted) / sum : 0.0f;
  return {max, sum, max + log_sum, entropy};
}

template <typename T>
void backward_row_as(const float* logits, int64_t vocab_size, int64_t padded_size,
                     float inverse_temperature, const LogitsRowGrad& grad, T* dlogits) {
  const F32x16 scale = set1(inverse_temperature), lse = set1(grad.lse);
  const F32x16 entropy = set1(grad.entropy), dlog_prob = set1(grad.dlog_prob);
  const F32x16 minus_dentropy = set1(-grad.dentropy), floor = set1(-200.0f);
  // With x = z - lse: dlog_prob * (indicator - p) - dentropy * p * (x + entropy).
  const auto gradient = [&](F32x16 z, F32x16 indicator) MOERL_INLINE_LAMBDA {
    const F32x16 x = max(floor, z - lse), p = exp(x);
    const F32x16 from_log_prob = dlog_prob * (indicator - p);
    return fma(minus_dentropy * p, x + entropy, from_log_prob) * scale;
  };
  const F32x16 target = gradient(set1(logits[grad.target]) * scale, set1(1.0f));
  for_each_lanes(vocab_size, [&](int64_t v, int64_t n) MOERL_INLINE_LAMBDA {
    store_n(dlogits + v, gradient(load_scaled(logits + v, n, scale), zero()), n);
  });
  store_partial(dlogits + grad.target, target, 1);
  std::memset(dlogits + vocab_size, 0, static_cast<size_t>(padded_size - vocab_size) * sizeof(T));
}

}  // namespace

template <>
LogitsRow TokenLogProbCpu<kIsa>::row(const float* logits, int64_t vocab_size,
                                     float inverse_temperature, bool with_entropy, float* prefix) {
  return with_entropy
             ? row_function<true>(logits, vocab_size, inverse_temperature, prefix, kPrefixBlock)
             : row_function<false>(logits, vocab_size, inverse_temperature, prefix, kPrefixBlock);
}

template <>
void TokenLogProbCpu<kIsa>::backward_row(const float* logits, int64_t vocab_size,
                                         int64_t padded_size, float inverse_temperature,
                                         const LogitsRowGrad& grad, DType dtype, void* dlogits) {
  if (dtype == DType::kBF16)
    backward_row_as(logits, vocab_size, padded_size, inverse_temperature, grad,
                    static_cast<bf16*>(dlogits));
  else
    backward_row_as(logits, vocab_size, padded_size, inverse_temperature, grad,
                    static_cast<float*>(dlogits));
}

}  // namespace moerl::kernels
