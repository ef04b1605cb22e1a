#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/moe/topk_gate_impl.h"

namespace moerl::kernels {
namespace {

/// The `capacity` largest of the values offered, largest first; of equal ones the first offered
/// stays ahead. A NaN never passes another value.
class TopList {
 public:
  TopList(int32_t* index, float* value, int64_t capacity)
      : index_(index), value_(value), capacity_(capacity) {}
  MOERL_INLINE void offer(int32_t index, float value) {
    if (size_ == capacity_ && !(value > value_[size_ - 1])) return;
    int64_t at = size_ < capacity_ ? size_++ : size_ - 1;
    for (; at > 0 && value > value_[at - 1]; --at) {
      index_[at] = index_[at - 1];
      value_[at] = value_[at - 1];
    }
    index_[at] = index;
    value_[at] = value;
  }

 private:
  int32_t* index_;
  float* value_;
  int64_t capacity_, size_ = 0;
};

/// Largest, or sum of the two largest biased scores of a group; of a group of one, its only score.
float group_worth(const float* biased, int64_t size, GroupWorth kind) {
  if (size == 1) return biased[0];
  float first = biased[0], second = biased[1];
  if (second > first) {
    first = biased[1];
    second = biased[0];
  }
  for (int64_t i = 2; i < size; ++i) {
    if (biased[i] > first) {
      second = first;
      first = biased[i];
    } else if (biased[i] > second) {
      second = biased[i];
    }
  }
  return kind == GroupWorth::kMax ? first : first + second;
}

/// Chooses the experts of one row from its biased scores.
void choose(const GateConfig& c, const float* biased, float* scratch, int32_t* topk_idx) {
  float* best = scratch;
  TopList chosen(topk_idx, best, c.num_experts_per_tok);
  const int64_t group_size = c.n_routed_experts / c.n_group;
  if (c.n_group == c.topk_group) {
    for (int64_t e = 0; e < c.n_routed_experts; ++e)
      chosen.offer(static_cast<int32_t>(e), biased[e]);
    return;
  }
  float* group_value = best + c.num_experts_per_tok;
  int32_t* groups = reinterpret_cast<int32_t*>(group_value + c.n_group);
  TopList kept(groups, group_value, c.topk_group);
  for (int64_t g = 0; g < c.n_group; ++g)
    kept.offer(static_cast<int32_t>(g),
               group_worth(biased + g * group_size, group_size, c.group_worth));
  // Ascending, so that ties between experts go to the smaller index.
  for (int64_t i = 1; i < c.topk_group; ++i)
    for (int64_t j = i; j > 0 && groups[j] < groups[j - 1]; --j) {
      const int32_t other = groups[j];
      groups[j] = groups[j - 1];
      groups[j - 1] = other;
    }
  for (int64_t i = 0; i < c.topk_group; ++i)
    for (int64_t e = groups[i] * group_size; e < (groups[i] + 1) * group_size; ++e)
      chosen.offer(static_cast<int32_t>(e), biased[e]);
}

/// Sum of the chosen scores in slot order, kept off zero.
MOERL_INLINE float chosen_sum(const float* scores, const int32_t* topk_idx, int64_t k) {
  float sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += scores[topk_idx[i]];
  return sum + 1e-20f;
}

void sigmoid_row(const float* logits, int64_t experts, float* scores) {
  for_each_lanes(experts, [&](int64_t e, int64_t n) MOERL_INLINE_LAMBDA {
    store_n(scores + e, sigmoid(load_n(logits + e, n)), n);
  });
}

void softmax_row(const float* logits, int64_t experts, float* scores) {
  float largest = logits[0];
  for (int64_t e = 1; e < experts; ++e) largest = logits[e] > largest ? logits[e] : largest;
  const F32x16 shift = set1(largest);
  for_each_lanes(experts, [&](int64_t e, int64_t n) MOERL_INLINE_LAMBDA {
    store_n(scores + e, exp(load_n(logits + e, n) - shift), n);
  });
  const F32x16 sum =
      set1(sum_row(experts, [&](F32x16 acc, int64_t e, int64_t n)
                                MOERL_INLINE_LAMBDA { return acc + load_n(scores + e, n); }));
  for_each_lanes(experts, [&](int64_t e, int64_t n) MOERL_INLINE_LAMBDA {
    store_n(scores + e, load_n(scores + e, n) / sum, n);
  });
}

/// ds, in dlogits, becomes the gradient of the logits.
void sigmoid_backward_row(const float* scores, int64_t experts, float* dlogits) {
  for_each_lanes(experts, [&](int64_t e, int64_t n) MOERL_INLINE_LAMBDA {
    const F32x16 s = load_n(scores + e, n);
    store_n(dlogits + e, load_n(dlogits + e, n) * (s * (set1(1.0f) - s)), n);
  });
}

void softmax_backward_row(const float* scores, int64_t experts, float* dlogits) {
  const F32x16 mean =
      set1(sum_row(experts, [&](F32x16 acc, int64_t e, int64_t n) MOERL_INLINE_LAMBDA {
        return fma(load_n(dlogits + e, n), load_n(scores + e, n), acc);
      }));
  for_each_lanes(experts, [&](int64_t e, int64_t n) MOERL_INLINE_LAMBDA {
    store_n(dlogits + e, load_n(scores + e, n) * (load_n(dlogits + e, n) - mean), n);
  });
}

}  // namespace

template <>
void TopkGateCpu<kIsa>::forward(const GateForwardArgs& args, int64_t begin, int64_t end,
                                float* scratch) {
  const GateConfig& c = args.config;
  const int64_t experts = c.n_routed_experts, k = c.num_experts_per_tok;
  float* biased = scratch;
  for (int64_t t = begin; t < end; ++t) {
    const float* logits = args.logits + t * experts;
    float* scores = args.scores + t * experts;
    int32_t* topk_idx = args.topk_idx + t * k;
    if (c.scoring == GateScoring::kSigmoid)
      sigmoid_row(logits, experts, scores);
    else
      softmax_row(logits, experts, scores);
    if (args.bias != nullptr)
      for_each_lanes(experts, [&](int64_t e, int64_t n) MOERL_INLINE_LAMBDA {
        store_n(biased + e, load_n(scores + e, n) + load_n(args.bias + e, n), n);
      });
    choose(c, args.bias != nullptr ? biased : scores, scratch + experts, topk_idx);
    const float sum = c.norm_topk_prob ? chosen_sum(scores, topk_idx, k) : 1.0f;
    for (int64_t i = 0; i < k; ++i)
      args.topk_weights[t * k + i] = scores[topk_idx[i]] / sum * c.routed_scaling_factor;
  }
}

template <>
void TopkGateCpu<kIsa>::backward(const GateBackwardArgs& args, int64_t begin, int64_t end) {
  const GateConfig& c = args.config;
  const int64_t experts = c.n_routed_experts, k = c.num_experts_per_tok;
  for (int64_t t = begin; t < end; ++t) {
    const float* scores = args.scores + t * experts;
    const float* extra = args.extra_dscores == nullptr ? nullptr : args.extra_dscores + t * experts;
    const float* dweights = args.dtopk_weights + t * k;
    const int32_t* topk_idx = args.topk_idx + t * k;
    float* dlogits = args.dlogits + t * experts;
    for_each_lanes(experts, [&](int64_t e, int64_t n) MOERL_INLINE_LAMBDA {
      store_n(dlogits + e, extra == nullptr ? zero() : load_n(extra + e, n), n);
    });
    float sum = 1, mean = 0;
    if (c.norm_topk_prob) {
      sum = chosen_sum(scores, topk_idx, k);
      for (int64_t i = 0; i < k; ++i) mean += dweights[i] * (scores[topk_idx[i]] / sum);
    }
    for (int64_t i = 0; i < k; ++i)
      dlogits[topk_idx[i]] += c.routed_scaling_factor / sum * (dweights[i] - mean);
    if (c.scoring == GateScoring::kSigmoid)
      sigmoid_backward_row(scores, experts, dlogits);
    else
      softmax_backward_row(scores, experts, dlogits);
  }
}

template <>
void TopkGateCpu<kIsa>::balance_loss(const BalanceLossArgs& args, int64_t begin, int64_t end,
                                     double* sums) {
  const int64_t experts = args.num_experts;
  for (int64_t e = 0; e < experts; ++e) sums[e] = 0;
  for (int64_t t = begin; t < end; ++t) {
    const float* scores = args.scores + t * experts;
    double total = 0;
    for (int64_t e = 0; e < experts; ++e) total += static_cast<double>(scores[e]);
    const double inverse = 1 / total;
    for (int64_t e = 0; e < experts; ++e) sums[e] += static_cast<double>(scores[e]) * inverse;
    if (args.dscores == nullptr) continue;
    double mean_load = 0;
    for (int64_t e = 0; e < experts; ++e)
      mean_load += args.load[e] * (static_cast<double>(scores[e]) * inverse);
    float* dscores = args.dscores + t * experts;
    for (int64_t e = 0; e < experts; ++e)
      dscores[e] += static_cast<float>(args.factor * inverse * (args.load[e] - mean_load));
  }
}

}  // namespace moerl::kernels
