#include "rollout/completion.h"

#include <cmath>

#include "common/check.h"

namespace moerl {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

void check_token(int32_t token, int64_t vocab_size, const char* field, size_t index) {
  check(token >= 0 && token < vocab_size, field, "[", index, "] is ", token,
        ", expected a token id in [0, ", vocab_size, ")");
}

}  // namespace

void validate(const SamplingParams& s, int64_t vocab_size) {
  check(std::isfinite(s.temperature) && s.temperature >= 0, "sampling.temperature is ",
        s.temperature, ", expected a finite number >= 0");
  check(s.top_k >= 0 && s.top_k <= kMaxInt32, "sampling.top_k is ", s.top_k, ", expected >= 0");
  check(s.top_p > 0 && s.top_p <= 1, "sampling.top_p is ", s.top_p, ", expected in (0, 1]");
  check(s.min_p >= 0 && s.min_p < 1, "sampling.min_p is ", s.min_p, ", expected in [0, 1)");
  check(s.max_tokens >= 1 && s.max_tokens <= kMaxInt32, "sampling.max_tokens is ", s.max_tokens,
        ", expected >= 1");
  for (size_t i = 0; i < s.stop_token_ids.size(); ++i)
    check_token(s.stop_token_ids[i], vocab_size, "sampling.stop_token_ids", i);
}

void validate(const GenerateRequest& request, const ModelConfig& model) {
  check(!request.prompts.empty(), "prompts is empty, expected at least one prompt");
  check(request.group_size >= 1 && request.group_size <= kMaxInt32, "group_size is ",
        request.group_size, ", expected >= 1");
  check(request.first_sample_index >= 0 &&
            request.first_sample_index <= kMaxInt32 - request.group_size,
        "first_sample_index is ", request.first_sample_index, ", expected in [0, ",
        kMaxInt32 - request.group_size, "]");
  check(request.policy_version >= -1, "policy_version is ", request.policy_version,
        ", expected >= 0, or -1 for any");
  check(request.num_top_log_probs >= 0, "num_top_log_probs is ", request.num_top_log_probs,
        ", expected >= 0");
  validate(request.sampling, model.vocab_size);
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    const std::vector<int32_t>& tokens = request.prompts[i].token_ids;
    const auto length = static_cast<int64_t>(tokens.size());
    check(length >= 1, "prompts[", i, "].token_ids is empty, expected at least one token");
    check(length < model.max_position_embeddings, "prompts[", i, "].token_ids has ", length,
          " tokens, expected at most ", model.max_position_embeddings - 1,
          " (max_position_embeddings less one to sample)");
    for (size_t t = 0; t < tokens.size(); ++t)
      check(tokens[t] >= 0 && tokens[t] < model.vocab_size, "prompts[", i, "].token_ids[", t,
            "] is ", tokens[t], ", expected a token id in [0, ", model.vocab_size, ")");
  }
}

void visit_fields(FieldVisitor& v, SamplingParams& c) {
  v.field("temperature", c.temperature, kNotNegative);
  v.field("top_k", c.top_k, kNotNegative);
  v.field("top_p", c.top_p, {std::numeric_limits<double>::min(), 1});
  v.field("min_p", c.min_p, {0, std::nextafter(1.0, 0.0)});
  v.field("max_tokens", c.max_tokens, kAtLeastOne);
}

}  // namespace moerl
