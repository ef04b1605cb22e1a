#include "rollout/rollout_convert.h"

#include "common/check.h"

namespace moerl {

v1::GenerateRequest to_proto(const GenerateRequest& request) {
  v1::GenerateRequest message;
  for (const TokenizedPrompt& prompt : request.prompts) {
    v1::Prompt* p = message.add_prompts();
    p->set_prompt_id(prompt.prompt_id);
    p->mutable_token_ids()->Assign(prompt.token_ids.begin(), prompt.token_ids.end());
  }
  message.set_group_size(static_cast<int32_t>(request.group_size));
  v1::SamplingParams* sampling = message.mutable_sampling();
  sampling->set_temperature(request.sampling.temperature);
  sampling->set_top_k(static_cast<int32_t>(request.sampling.top_k));
  sampling->set_top_p(request.sampling.top_p);
  sampling->set_min_p(request.sampling.min_p);
  sampling->set_max_tokens(static_cast<int32_t>(request.sampling.max_tokens));
  sampling->mutable_stop_token_ids()->Assign(request.sampling.stop_token_ids.begin(),
                                             request.sampling.stop_token_ids.end());
  message.set_seed(request.seed);
  message.set_policy_version(request.policy_version);
  message.set_first_sample_index(static_cast<int32_t>(request.first_sample_index));
  return message;
}

GenerateRequest from_proto(const v1::GenerateRequest& message) {
  GenerateRequest request;
  request.prompts.reserve(static_cast<size_t>(message.prompts_size()));
  for (const v1::Prompt& prompt : message.prompts())
    request.prompts.push_back(
        {prompt.prompt_id(), {prompt.token_ids().begin(), prompt.token_ids().end()}});
  const v1::SamplingParams& sampling = message.sampling();
  request.group_size = message.group_size();
  request.sampling = {
      .temperature = sampling.temperature(),
      .top_k = sampling.top_k(),
      .top_p = sampling.top_p() == 0 ? 1 : sampling.top_p(),
      .min_p = sampling.min_p(),
      .max_tokens = sampling.max_tokens(),
      .stop_token_ids = {sampling.stop_token_ids().begin(), sampling.stop_token_ids().end()}};
  request.seed = message.seed();
  request.policy_version = message.policy_version();
  request.first_sample_index = message.first_sample_index();
  return request;
}

v1::Completion to_proto(const Completion& completion) {
  v1::Completion message;
  message.set_prompt_id(completion.prompt_id);
  message.set_sample_index(static_cast<int32_t>(completion.sample_index));
  message.mutable_token_ids()->Assign(completion.token_ids.begin(), completion.token_ids.end());
  message.mutable_log_probs()->Assign(completion.log_probs.begin(), completion.log_probs.end());
  message.set_finish_reason(completion.finish_reason == FinishReason::kStop
                                ? v1::FINISH_REASON_STOP
                                : v1::FINISH_REASON_LENGTH);
  message.set_policy_version(completion.policy_version);
  return message;
}

Completion from_proto(const v1::Completion& message) {
  check(message.token_ids_size() == message.log_probs_size(), "completion has ",
        message.log_probs_size(), " log_probs, expected one for each of ", message.token_ids_size(),
        " token_ids");
  check(message.finish_reason() == v1::FINISH_REASON_STOP ||
            message.finish_reason() == v1::FINISH_REASON_LENGTH,
        "completion's finish_reason is ", static_cast<int>(message.finish_reason()),
        ", expected STOP (1) or LENGTH (2)");
  return {.prompt_id = message.prompt_id(),
          .sample_index = message.sample_index(),
          .token_ids = {message.token_ids().begin(), message.token_ids().end()},
          .log_probs = {message.log_probs().begin(), message.log_probs().end()},
          .finish_reason = message.finish_reason() == v1::FINISH_REASON_STOP
                               ? FinishReason::kStop
                               : FinishReason::kLength,
          .policy_version = message.policy_version()};
}

v1::GetStatusResponse to_proto(const EngineStatus& status, const std::string& numeric_family) {
  v1::GetStatusResponse message;
  message.set_policy_version(status.policy_version);
  message.set_numeric_family(numeric_family);
  message.set_weights_hash(status.weights_hash);
  message.set_queued_sequences(status.queued_sequences);
  message.set_running_sequences(status.running_sequences);
  message.set_kv_blocks_total(status.kv_blocks_total);
  message.set_kv_blocks_free(status.kv_blocks_free);
  return message;
}

}  // namespace moerl
