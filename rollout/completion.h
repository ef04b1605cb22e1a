#pragma once
#include <cstdint>
#include <vector>

#include "common/config.h"
#include "policy/model_config.h"

namespace moerl {

/// How completions are sampled; field meanings: SamplingParams of rollout.proto.
struct SamplingParams {
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;  ///< in (0, 1]; the wire's 0 is 1 here
  double min_p = 0;
  int64_t max_tokens = 256;
  std::vector<int32_t> stop_token_ids;
};

/// A prompt as the model reads it.
struct TokenizedPrompt {
  uint64_t prompt_id = 0;
  std::vector<int32_t> token_ids;
};

/// What Generate is asked for; field meanings: GenerateRequest of rollout.proto.
struct GenerateRequest {
  std::vector<TokenizedPrompt> prompts;
  int64_t group_size = 1;
  SamplingParams sampling;
  uint64_t seed = 0;
  int64_t policy_version = -1;
  int64_t first_sample_index = 0;
  /// Likeliest tokens that GenerateCallbacks::on_token is told with each drawn one; not on the
  /// wire.
  int64_t num_top_log_probs = 0;

  int64_t num_sequences() const { return static_cast<int64_t>(prompts.size()) * group_size; }
};

enum class FinishReason : uint8_t { kStop, kLength };

/// One sampled answer; field meanings: Completion of rollout.proto.
struct Completion {
  uint64_t prompt_id = 0;
  int64_t sample_index = 0;
  std::vector<int32_t> token_ids;
  std::vector<float> log_probs;  ///< one for each token
  FinishReason finish_reason = FinishReason::kLength;
  int64_t policy_version = 0;

  friend bool operator==(const Completion&, const Completion&) = default;
};

/// @throws std::invalid_argument naming the field, the value and what is allowed.
void validate(const SamplingParams& sampling, int64_t vocab_size);
/// As above; also that every prompt holds ids of the vocabulary and leaves room for one token.
void validate(const GenerateRequest& request, const ModelConfig& model);

/// temperature, top_k, top_p, min_p and max_tokens; stop tokens are the tokenizer's business.
void visit_fields(FieldVisitor& v, SamplingParams& c);

}  // namespace moerl
