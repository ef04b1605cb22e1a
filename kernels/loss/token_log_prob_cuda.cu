#include "kernels/cuda/backend.h"
#include "kernels/cuda/vocabulary.h"
#include "kernels/loss/token_log_prob_impl.h"

namespace moerl::kernels::cuda {
namespace {

/// A block a row.
template <bool kWithEntropy>
__global__ void __launch_bounds__(kVocabularyThreads) forward_kernel(TokenLogProbForwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  const VocabularyMemory memory(shared);
  const int64_t t = blockIdx.x;
  const float* logits = args.logits + t * args.width;
  const float scale = args.inverse_temperature;
  const float shift = max_of_row(logits, args.vocab_size, scale, memory);
  const RowSums sums = sum_of_row<kWithEntropy>(
      args.vocab_size, memory, [&](int64_t v) { return shifted_exp(logits[v], scale, shift); });
  if (threadIdx.x != 0) return;
  const float log_sum = log_or_nan(sums.sum), lse = shift + log_sum;
  args.log_probs[t] = logits[args.targets[t]] * scale - lse;
  if (kWithEntropy) args.entropy[t] = log_sum - sums.weighted / sums.sum;
  if (args.lse != nullptr) args.lse[t] = lse;
}

template <typename T>
void backward_as(const TokenLogProbBackwardCuda& args, T* dlogits) {
  launch_each("token_log_prob_backward", args.rows * args.width, [=] __device__(int64_t i) {
    const int64_t t = i / args.width, v = i % args.width;
    if (v >= args.vocab_size) return store(dlogits + i, 0.0f);
    const float scale = args.inverse_temperature;
    const float entropy = args.entropy == nullptr ? 0.0f : args.entropy[t];
    const float dentropy = args.dentropy == nullptr ? 0.0f : args.dentropy[t];
    const float indicator = v == args.targets[t] ? 1.0f : 0.0f;
    const float x = max(-200.0f, args.logits[i] * scale - args.lse[t]), p = exp(x);
    const float from_log_prob = args.dlog_probs[t] * (indicator - p);
    store(dlogits + i, fma(-dentropy * p, x + entropy, from_log_prob) * scale);
  });
}

void forward(const TokenLogProbForwardCuda& args) {
  launch("log_prob_from_logits",
         args.entropy != nullptr ? forward_kernel<true> : forward_kernel<false>,
         {static_cast<unsigned>(args.rows), kVocabularyThreads, VocabularyMemory::kBytes}, args);
}

void backward(const TokenLogProbBackwardCuda& args) {
  if (args.dtype == DType::kBF16)
    backward_as(args, static_cast<bf16*>(args.dlogits));
  else
    backward_as(args, static_cast<float*>(args.dlogits));
}

const RegisterCudaOps<TokenLogProbCuda> registered({forward, backward});

}  // namespace
}  // namespace moerl::kernels::cuda
