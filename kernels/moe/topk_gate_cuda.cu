#include "kernels/cuda/backend.h"
#include "kernels/cuda/order.h"
#include "kernels/cuda/rows.h"
#include "kernels/moe/topk_gate_impl.h"

namespace moerl::kernels::cuda {
namespace {

// A team of kRowThreads a row.

/// What the team of a row shares.
struct GateMemory {
  uint64_t *keys, *group_keys, *warp_keys;  // [E], [n_group], [2]
  float* scratch;                           // of reduce_team

  __device__ GateMemory(unsigned char* shared, const GateConfig& c)
      : keys(reinterpret_cast<uint64_t*>(shared)),
        group_keys(keys + c.n_routed_experts),
        warp_keys(group_keys + c.n_group),
        scratch(reinterpret_cast<float*>(warp_keys + 2)) {}
};
size_t gate_memory_bytes(const GateConfig& c) {
  return static_cast<size_t>(c.n_routed_experts + c.n_group + 2) * sizeof(uint64_t) +
         kRowScratchBytes;
}

__device__ void sigmoid_row(const float* logits, int64_t experts, float* scores) {
  for (int64_t e = threadIdx.x; e < experts; e += kRowThreads) scores[e] = sigmoid(logits[e]);
}

__device__ void softmax_row(const float* logits, int64_t experts, float* scratch, float* scores) {
  float largest = -INFINITY;
  for (int64_t e = threadIdx.x; e < experts; e += kRowThreads) largest = max(logits[e], largest);
  largest = reduce_team(largest, scratch, [](float a, float b) { return max(a, b); });
  const float sum = sum_row(experts, scratch, [&](float acc, int64_t e) {
    scores[e] = exp(logits[e] - largest);
    return acc + scores[e];
  });
  for (int64_t e = threadIdx.x; e < experts; e += kRowThreads) scores[e] = scores[e] / sum;
}

/// The worth of the group that begins at `first`.
template <typename Biased>
__device__ float group_worth(const Biased& biased, int64_t begin, int64_t size, GroupWorth kind) {
  float first = biased(begin);
  if (size == 1) return first;
  float second = biased(begin + 1);
  if (second > first) {
    const float other = first;
    first = second;
    second = other;
  }
  for (int64_t e = begin + 2; e < begin + size; ++e) {
    const float value = biased(e);
    if (value > first) {
      second = first;
      first = value;
    } else if (value > second) {
      second = value;
    }
  }
  return kind == GroupWorth::kMax ? first : first + second;
}

/// Whether the group is among the topk_group largest.
__device__ bool is_kept(const GateConfig& c, const uint64_t* group_keys, int64_t group) {
  int64_t larger = 0;
  for (int64_t g = 0; g < c.n_group; ++g) larger += group_keys[g] > group_keys[group] ? 1 : 0;
  return larger < c.topk_group;
}

/// Chooses the experts of a row, the best first. Each thread looks after the experts that are its
/// number modulo the team.
__device__ void choose(const GateConfig& c, const GateMemory& memory, int32_t* topk_idx) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int64_t k = 0; k < c.num_experts_per_tok; ++k) {
    uint64_t best = 0;
    for (int64_t e = threadIdx.x; e < c.n_routed_experts; e += kRowThreads)
      best = memory.keys[e] > best ? memory.keys[e] : best;
    best = max_of_warp(best);
    if (threadIdx.x % 32 == 0) memory.warp_keys[warp] = best;
    __syncthreads();
    best = memory.warp_keys[0] > memory.warp_keys[1] ? memory.warp_keys[0] : memory.warp_keys[1];
    const uint32_t expert = index_of_key(best);
    if (threadIdx.x == 0) topk_idx[k] = static_cast<int32_t>(expert);
    if (threadIdx.x == expert % kRowThreads) memory.keys[expert] = 0;
    __syncthreads();  // before the next round's keys
  }
}

/// Sum of the chosen scores in slot order, kept off zero.
__device__ float chosen_sum(const float* scores, const int32_t* topk_idx, int64_t k) {
  float sum = 0.0f;
  for (int64_t i = 0; i < k; ++i) sum = sum + scores[topk_idx[i]];
  return sum + 1e-20f;
}

__global__ void __launch_bounds__(kRowThreads) forward_kernel(GateForwardArgs args) {
  MOERL_SHARED_MEMORY(shared);
  const GateConfig& c = args.config;
  const GateMemory memory(shared, c);
  const int64_t t = blockIdx.x, experts = c.n_routed_experts, k = c.num_experts_per_tok;
  const int64_t group_size = experts / c.n_group;
  const float* logits = args.logits + t * experts;
  float* scores = args.scores + t * experts;
  int32_t* topk_idx = args.topk_idx + t * k;
  if (c.scoring == GateScoring::kSigmoid)
    sigmoid_row(logits, experts, scores);
  else
    softmax_row(logits, experts, memory.scratch, scores);
  __syncthreads();
  auto biased = [&](int64_t e) {
    return args.bias == nullptr ? scores[e] : scores[e] + args.bias[e];
  };
  for (int64_t g = threadIdx.x; g < c.n_group; g += kRowThreads)
    memory.group_keys[g] = order_key(group_worth(biased, g * group_size, group_size, c.group_worth),
                                     static_cast<uint32_t>(g));
  __syncthreads();
  for (int64_t e = threadIdx.x; e < experts; e += kRowThreads)
    memory.keys[e] = is_kept(c, memory.group_keys, e / group_size)
                         ? order_key(biased(e), static_cast<uint32_t>(e))
                         : 0;
  choose(c, memory, topk_idx);
  const float sum = c.norm_topk_prob ? chosen_sum(scores, topk_idx, k) : 1.0f;
  for (int64_t i = threadIdx.x; i < k; i += kRowThreads)
    args.topk_weights[t * k + i] = scores[topk_idx[i]] / sum * c.routed_scaling_factor;
}

__global__ void __launch_bounds__(kRowThreads) backward_kernel(GateBackwardArgs args) {
  MOERL_SHARED_MEMORY(shared);
  float* scratch = reinterpret_cast<float*>(shared);
  const GateConfig& c = args.config;
  const int64_t t = blockIdx.x, experts = c.n_routed_experts, k = c.num_experts_per_tok;
  const float* scores = args.scores + t * experts;
  const float* dweights = args.dtopk_weights + t * k;
  const int32_t* topk_idx = args.topk_idx + t * k;
  float* dlogits = args.dlogits + t * experts;
  for (int64_t e = threadIdx.x; e < experts; e += kRowThreads)
    dlogits[e] = args.extra_dscores == nullptr ? 0.0f : args.extra_dscores[t * experts + e];
  float sum = 1.0f, mean = 0.0f;
  if (c.norm_topk_prob) {
    sum = chosen_sum(scores, topk_idx, k);
    for (int64_t i = 0; i < k; ++i) mean = mean + dweights[i] * (scores[topk_idx[i]] / sum);
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < k; i += kRowThreads) {
    float* dscore = dlogits + topk_idx[i];
    *dscore = *dscore + c.routed_scaling_factor / sum * (dweights[i] - mean);
  }
  __syncthreads();
  if (c.scoring == GateScoring::kSigmoid) {
    for (int64_t e = threadIdx.x; e < experts; e += kRowThreads)
      dlogits[e] = dlogits[e] * (scores[e] * (1.0f - scores[e]));
  } else {
    const float dot = sum_row(
        experts, scratch, [&](float acc, int64_t e) { return fma(dlogits[e], scores[e], acc); });
    for (int64_t e = threadIdx.x; e < experts; e += kRowThreads)
      dlogits[e] = scores[e] * (dlogits[e] - dot);
  }
}

void forward(const GateForwardArgs& args, int64_t rows) {
  launch("topk_gate_forward", forward_kernel,
         {static_cast<unsigned>(rows), kRowThreads, gate_memory_bytes(args.config)}, args);
}
void backward(const GateBackwardArgs& args, int64_t rows) {
  launch("topk_gate_backward", backward_kernel,
         {static_cast<unsigned>(rows), kRowThreads, kRowScratchBytes}, args);
}

/// f of every expert: a thread an expert.
void count_load(const BalanceLossCuda& args) {
  const int64_t n = args.end - args.begin, k = args.num_topk;
  const double per_slot = static_cast<double>(args.num_experts) / static_cast<double>(k * n);
  launch_each("sequence_balance_loss", args.num_experts, [=] __device__(int64_t e) {
    double count = 0;
    for (int64_t i = args.begin * k; i < args.end * k; ++i) count += args.topk_idx[i] == e ? 1 : 0;
    args.load[e] = count * per_slot;
  });
}

void balance_loss(const BalanceLossCuda& args) {
  const char* op = "sequence_balance_loss";
  const int64_t n = args.end - args.begin, experts = args.num_experts;
  const int64_t parts = (n + kBalanceRows - 1) / kBalanceRows;
  const double rows = static_cast<double>(n), alpha = args.alpha, factor = args.alpha / rows;
  if (n == 0) {
    launch_each(op, 1, [=] __device__(int64_t) { *args.loss = 0; });
    return;
  }
  count_load(args);
  // 1 / S of a row, and its gradients.
  launch_each(op, n, [=] __device__(int64_t i) {
    const float* scores = args.scores + (args.begin + i) * experts;
    double total = 0;
    for (int64_t e = 0; e < experts; ++e) total += static_cast<double>(scores[e]);
    const double inverse = 1 / total;
    args.inverse[i] = inverse;
    if (args.dscores == nullptr) return;
    double mean_load = 0;
    for (int64_t e = 0; e < experts; ++e)
      mean_load += args.load[e] * (static_cast<double>(scores[e]) * inverse);
    float* dscores = args.dscores + (args.begin + i) * experts;
    for (int64_t e = 0; e < experts; ++e)
      dscores[e] = dscores[e] + static_cast<float>(factor * inverse * (args.load[e] - mean_load));
  });
  // Each expert's share of the loss.
  launch_each(op, experts, [=] __device__(int64_t e) {
    double sum = 0;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = part * kBalanceRows;
      const int64_t last = first + kBalanceRows < n ? first + kBalanceRows : n;
      double partial = 0;
      for (int64_t i = first; i < last; ++i)
        partial +=
            static_cast<double>(args.scores[(args.begin + i) * experts + e]) * args.inverse[i];
      sum += partial;
    }
    args.load[e] = args.load[e] * (sum / rows);
  });
  launch_each(op, 1, [=] __device__(int64_t) {
    double loss = 0;
    for (int64_t e = 0; e < experts; ++e) loss += args.load[e];
    *args.loss = alpha * loss;
  });
}

const RegisterCudaOps<TopkGateCuda> registered({forward, backward, balance_loss});

}  // namespace
}  // namespace moerl::kernels::cuda
