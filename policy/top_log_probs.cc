#include "policy/top_log_probs.h"

#include <algorithm>
#include <numeric>

#include "common/check.h"
#include "kernels/loss/token_log_prob.h"

namespace moerl {

std::vector<std::vector<TokenLogProb>> top_log_probs(ExecContext& ctx, const Tensor& logits,
                                                     int64_t vocab_size, float temperature,
                                                     int64_t k) {
  check(k >= 1, "top_log_probs: k is ", k, ", expected >= 1");
  const auto num_rows = static_cast<size_t>(logits.dim(0));
  // A token at a time would repeat the sum over the vocabulary: log_prob = z[token] - lse.
  const std::vector<int32_t> targets(num_rows, 0);
  std::vector<float> log_probs(num_rows), lse(num_rows);
  kernels::log_prob_from_logits(ctx, logits, vocab_size, temperature, targets, log_probs, {}, lse);
  const Tensor on_host = logits.to(Device::kCpu);
  const float scale = 1 / temperature;
  std::vector<int32_t> ids(static_cast<size_t>(vocab_size));
  const auto kept = static_cast<size_t>(std::min(k, vocab_size));
  std::vector<std::vector<TokenLogProb>> top(num_rows);
  for (size_t row = 0; row < num_rows; ++row) {
    const float* z = on_host.data<float>() + static_cast<int64_t>(row) * on_host.dim(1);
    std::iota(ids.begin(), ids.end(), 0);
    std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept), ids.end(),
                      [z](int32_t a, int32_t b) { return z[a] != z[b] ? z[a] > z[b] : a < b; });
    for (size_t i = 0; i < kept; ++i) top[row].push_back({ids[i], z[ids[i]] * scale - lse[row]});
  }
  return top;
}

}  // namespace moerl
