#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/open_model.h"
#include "rollout/engine.h"

namespace moerl {

/// A completion as text.
struct SampledText {
  std::string text;  ///< without special tokens
  std::vector<int32_t> token_ids;
  std::vector<float> log_probs;
  bool is_finished = false;  ///< ended by a stop token; else cut at the limit or stopped
};

struct TextSamplerConfig {
  SamplingParams sampling;  ///< stop tokens are filled in from the model and the template
  uint64_t seed = 0;
  double kv_cache_gb = 1;
  int64_t max_num_seqs = 64;
};

/// Samples text from an opened model with the engine that serves rollouts: for the same seed,
/// prompt id and sample index it gives the same tokens.
class TextSampler {
 public:
  /// @param chat  its turn end stops a completion too.
  TextSampler(ExecContext& ctx, const OpenedModel& model, const policy::ChatTemplate& chat,
              TextSamplerConfig config);

  /// A piece of sample (prompt, sample index), never cutting a character.
  using OnText = std::function<void(size_t prompt, int64_t sample, std::string_view piece)>;
  /// A sample is complete. Any order.
  using OnSample = std::function<void(size_t prompt, int64_t sample, SampledText)>;

  /// Samples `n` completions of every prompt, in batches; returns when all are delivered or `stop`
  /// became true (then on_sample gets what there is of the unfinished ones, too).
  /// @param first_prompt_id  prompt i has the id first_prompt_id + i.
  /// @throws std::invalid_argument naming the field for sampling parameters out of range, prompts
  ///   that are empty or leave no room; whatever the forward throws.
  void run(const std::vector<std::vector<int32_t>>& prompts, int64_t n, uint64_t first_prompt_id,
           const OnText& on_text, const OnSample& on_sample, const std::atomic<bool>& stop);

  /// Tokens drawn and seconds spent in run() so far.
  int64_t num_tokens() const { return num_tokens_; }
  double seconds() const { return seconds_; }

 private:
  ExecContext& ctx_;
  const LoadedTokenizer& tokenizer_;
  TextSamplerConfig config_;
  std::unique_ptr<Engine> engine_;
  int64_t num_tokens_ = 0;
  double seconds_ = 0;
};

}  // namespace moerl
