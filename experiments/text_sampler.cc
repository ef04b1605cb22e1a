#include "experiments/text_sampler.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "common/check.h"
#include "common/error.h"

namespace moerl {
namespace {

/// A sample in the making.
struct Stream {
  explicit Stream(const policy::Tokenizer& tokenizer) : decoder(tokenizer, /*skip_special=*/true) {}
  policy::StreamDecoder decoder;
  SampledText sample;
};

}  // namespace

TextSampler::TextSampler(ExecContext& ctx, const OpenedModel& model,
                         const policy::ChatTemplate& chat, TextSamplerConfig config)
    : ctx_(ctx), tokenizer_(model.need_tokenizer()), config_(std::move(config)) {
  config_.sampling.stop_token_ids = stop_tokens_of(model, chat);
  EngineConfig engine;
  engine.kv_cache_bytes = static_cast<int64_t>(config_.kv_cache_gb * (1 << 30));
  engine.max_num_seqs = config_.max_num_seqs;
  engine_ = std::make_unique<Engine>(*model.transformer, engine, ctx_);
}

void TextSampler::run(const std::vector<std::vector<int32_t>>& prompts, int64_t n,
                      uint64_t first_prompt_id, const OnText& on_text, const OnSample& on_sample,
                      const std::atomic<bool>& stop) {
  const auto start = std::chrono::steady_clock::now();
  GenerateRequest request;
  request.group_size = n;
  request.sampling = config_.sampling;
  request.seed = config_.seed;
  for (size_t i = 0; i < prompts.size(); ++i)
    request.prompts.push_back({.prompt_id = first_prompt_id + i, .token_ids = prompts[i]});

  std::map<std::pair<uint64_t, int64_t>, Stream> streams;
  const auto stream_of = [&](uint64_t prompt_id, int64_t sample) -> Stream& {
    return streams.try_emplace({prompt_id, sample}, tokenizer_.tokenizer).first->second;
  };
  const auto emit = [&](uint64_t prompt_id, int64_t sample, Stream& stream,
                        const std::string& piece) {
    stream.sample.text += piece;
    if (on_text && !piece.empty())
      on_text(static_cast<size_t>(prompt_id - first_prompt_id), sample, piece);
  };
  std::exception_ptr error;
  GenerateCallbacks callbacks;
  callbacks.on_token = [&](const DrawnToken& drawn) {
    Stream& stream = stream_of(drawn.prompt_id, drawn.sample_index);
    stream.sample.token_ids.push_back(drawn.token);
    ++num_tokens_;
    emit(drawn.prompt_id, drawn.sample_index, stream, stream.decoder.push(drawn.token));
    return true;
  };
  const auto deliver = [&](uint64_t prompt_id, int64_t sample) {
    Stream& stream = stream_of(prompt_id, sample);
    emit(prompt_id, sample, stream, stream.decoder.finish());
    if (on_sample)
      on_sample(static_cast<size_t>(prompt_id - first_prompt_id), sample, std::move(stream.sample));
    streams.erase({prompt_id, sample});
  };
  callbacks.on_completion = [&](Completion completion) {
    SampledText& sample = stream_of(completion.prompt_id, completion.sample_index).sample;
    sample.log_probs = std::move(completion.log_probs);
    sample.is_finished = completion.finish_reason == FinishReason::kStop;
    deliver(completion.prompt_id, completion.sample_index);
  };
  callbacks.on_done = [&](std::exception_ptr e) { error = e; };

  const uint64_t id = engine_->submit(std::move(request), std::move(callbacks));
  while (engine_->step())
    if (stop) engine_->cancel(id);
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (error) {
    try {
      std::rethrow_exception(error);
    } catch (const Cancelled&) {
      while (!streams.empty()) deliver(streams.begin()->first.first, streams.begin()->first.second);
    }
  }
}

}  // namespace moerl
