#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/loss/token_log_prob_impl.h"
#include "kernels/sampling/sample_token_impl.h"

namespace moerl::kernels {
namespace {

/// e computed again from the logits, the same bits as in the row function.
struct ComputedExp {
  const float* logits;
  F32x16 scale, shift;
  MOERL_INLINE F32x16 operator()(int64_t v, int64_t n) const {
    return exp(max(set1(-200.0f), load_n(logits + v, n) * scale - shift));
  }
};
struct StoredExp {
  const float* e;
  MOERL_INLINE F32x16 operator()(int64_t v, int64_t n) const { return load_n(e + v, n); }
};

/// Walks from token `begin`, before which the lane sums are `sums`, to the first whose C exceeds
/// the threshold.
template <typename Exp>
int64_t walk(const Exp& exp_of, int64_t begin, int64_t vocab_size, F32x16 sums, float threshold) {
  for (int64_t v = begin; v < vocab_size; v += kLanes) {
    const int64_t n = vocab_size - v < kLanes ? vocab_size - v : kLanes;
    const F32x16 e = exp_of(v, n);
    const F32x16 next = sums + e;
    // Lanes behind a partial end hold e^0-like values, not tokens: only full groups may be skipped.
    if (n == kLanes && !(sum_lanes(next) > threshold)) {
      sums = next;
      continue;
    }
    float lanes[kLanes], values[kLanes];
    store(lanes, sums);
    store(values, e);
    for (int64_t i = 0; i < n; ++i) {
      lanes[i] += values[i];
      if (sum_lanes(load(lanes)) > threshold) return v + i;
    }
  }
  return vocab_size;
}

}  // namespace

template <>
int64_t SampleTokenCpu<kIsa>::pick(const float* logits, int64_t vocab_size,
                                   float inverse_temperature, float max, const float* prefix,
                                   float threshold) {
  constexpr int64_t kBlock = TokenLogProbCpu<kIsa>::kPrefixBlock;
  // C at the block ends never falls: binary search for the first block that ends above.
  int64_t low = 0, high = vocab_size / kBlock;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (sum_lanes(load(prefix + middle * kLanes)) > threshold)
      high = middle;
    else
      low = middle + 1;
  }
  const F32x16 sums = low == 0 ? zero() : load(prefix + (low - 1) * kLanes);
  return walk(ComputedExp{logits, set1(inverse_temperature), set1(max)}, low * kBlock, vocab_size,
              sums, threshold);
}

template <>
int64_t SampleTokenCpu<kIsa>::pick_stored(const float* e, int64_t vocab_size, float threshold) {
  return walk(StoredExp{e}, 0, vocab_size, zero(), threshold);
}

template <>
void SampleTokenCpu<kIsa>::exp_row(const float* logits, int64_t vocab_size,
                                   float inverse_temperature, float max, float* e) {
  const ComputedExp exp_of{logits, set1(inverse_temperature), set1(max)};
  for_each_lanes(vocab_size, [&](int64_t v, int64_t n)
                                 MOERL_INLINE_LAMBDA { store_n(e + v, exp_of(v, n), n); });
}

template <>
float SampleTokenCpu<kIsa>::sum(const float* e, int64_t vocab_size) {
  F32x16 sums = zero();
  for_each_lanes(vocab_size,
                 [&](int64_t v, int64_t n) MOERL_INLINE_LAMBDA { sums = sums + load_n(e + v, n); });
  return sum_lanes(sums);
}

template <>
int64_t SampleTokenCpu<kIsa>::find(const float* logits, int64_t vocab_size, float value) {
  constexpr int64_t kGroup = 8 * kLanes;
  int64_t v = 0;
  for (; v + kGroup <= vocab_size; v += kGroup) {
    F32x16 top = load(logits + v);
    for (int64_t i = kLanes; i < kGroup; i += kLanes) top = max(top, load(logits + v + i));
    if (max_lanes(top) >= value) break;
  }
  while (v < vocab_size && logits[v] != value) ++v;
  return v;
}

}  // namespace moerl::kernels
