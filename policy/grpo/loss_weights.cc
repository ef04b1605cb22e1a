#include "policy/grpo/loss_weights.h"

#include "common/check.h"

namespace moerl {

std::vector<double> loss_weights(std::span<const int64_t> lengths, const std::string& loss_agg_mode,
                                 double scale_factor) {
  double tokens = 0, sequences = 0;
  for (int64_t length : lengths) {
    tokens += static_cast<double>(length);
    sequences += length > 0 ? 1 : 0;
  }
  std::vector<double> weights;
  for (int64_t length : lengths) {
    if (length == 0) {
      weights.push_back(0);
    } else if (loss_agg_mode == "token-mean") {
      weights.push_back(1 / tokens);
    } else if (loss_agg_mode == "seq-mean-token-mean") {
      weights.push_back(1 / (sequences * static_cast<double>(length)));
    } else if (loss_agg_mode == "seq-mean-token-sum") {
      weights.push_back(1 / sequences);
    } else {
      check(loss_agg_mode == "seq-mean-token-sum-norm", "loss_agg_mode is '", loss_agg_mode,
            "', which is unknown");
      check(scale_factor > 0, "loss_scale_factor is ", scale_factor, ", expected > 0");
      weights.push_back(1 / (sequences * scale_factor));
    }
  }
  return weights;
}

}  // namespace moerl
