#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <tuple>

#include "common/rng.h"
#include "policy/transformer.h"
#include "rollout/engine.h"

namespace moerl::testing {

inline constexpr int64_t kTinyVocab = 64;

/// Two layers, one of experts; weights large enough that distributions and routing are far from
/// uniform.
inline ModelConfig tiny_config(const std::string& mla_form = "expanded") {
  ModelConfig c;
  c.vocab_size = kTinyVocab;
  c.hidden_size = 32;
  c.intermediate_size = 64;
  c.moe_intermediate_size = 32;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 2;
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = 16;
  c.qk_rope_head_dim = 16;
  c.v_head_dim = 16;
  c.n_routed_experts = 8;
  c.n_shared_experts = 1;
  c.num_experts_per_tok = 2;
  c.n_group = 2;
  c.topk_group = 1;
  c.first_k_dense_replace = 1;
  c.max_position_embeddings = 512;
  c.initializer_range = 0.3;
  c.mla_form = mla_form;
  return c;
}

/// A model with an execution context of its own.
struct TinyModel {
  explicit TinyModel(Precision precision = DType::kBF16, const std::string& mla_form = "expanded",
                     int num_threads = 1, uint64_t seed = 3, Device device = Device::kCpu)
      : ctx(num_threads, detect_isa(), device),
        model(tiny_config(mla_form), precision, Masters::kKept, device) {
    model.init_weights(seed);
    model.pack(ctx);
  }
  ExecContext ctx;
  Transformer model;
};

inline EngineConfig tiny_engine_config() {
  return {.num_kv_blocks = 256, .max_num_seqs = 32, .max_batched_tokens = 128, .max_queue = 1000};
}

/// Prompts of 1 to about 70 tokens; ids 10, 11, ….
inline GenerateRequest tiny_request(int64_t num_prompts, int64_t group_size, int64_t max_tokens) {
  GenerateRequest request;
  Rng rng(11);
  for (int64_t i = 0; i < num_prompts; ++i) {
    TokenizedPrompt prompt{.prompt_id = 10 + static_cast<uint64_t>(i)};
    const uint32_t length = i == 0 ? 32 : 1 + rng.below(70);
    for (uint32_t t = 0; t < length; ++t)
      prompt.token_ids.push_back(static_cast<int32_t>(rng.below(kTinyVocab)));
    request.prompts.push_back(std::move(prompt));
  }
  request.group_size = group_size;
  request.sampling.max_tokens = max_tokens;
  request.sampling.stop_token_ids = {5};
  request.seed = 42;
  return request;
}

/// By (prompt_id, sample_index).
using CompletionMap = std::map<std::pair<uint64_t, int64_t>, Completion>;

/// Steps the engine until the request has ended; rethrows its error.
inline CompletionMap generate(Engine& engine, const GenerateRequest& request) {
  CompletionMap completions;
  bool done = false;
  std::exception_ptr error;
  engine.submit(request, {.on_completion =
                              [&](Completion c) {
                                const auto key = std::pair(c.prompt_id, c.sample_index);
                                EXPECT_TRUE(completions.emplace(key, std::move(c)).second);
                              },
                          .on_done =
                              [&](std::exception_ptr e) {
                                EXPECT_FALSE(done);
                                done = true;
                                error = e;
                              }});
  while (!done && engine.step()) {
  }
  EXPECT_TRUE(done);
  if (error) std::rethrow_exception(error);
  EXPECT_EQ(static_cast<int64_t>(completions.size()), request.num_sequences());
  return completions;
}

/// Same tokens, same finish reasons, and log-probabilities of the same bits.
inline void expect_same_bits(const Completion& a, const Completion& b) {
  EXPECT_EQ(a.token_ids, b.token_ids) << "prompt " << a.prompt_id << " sample " << a.sample_index;
  ASSERT_EQ(a.log_probs.size(), b.log_probs.size());
  EXPECT_EQ(0, std::memcmp(a.log_probs.data(), b.log_probs.data(), a.log_probs.size() * 4))
      << "prompt " << a.prompt_id << " sample " << a.sample_index;
  EXPECT_EQ(a.finish_reason, b.finish_reason);
}
inline void expect_same_bits(const CompletionMap& a, const CompletionMap& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [key, completion] : a) {
    const auto other = b.find(key);
    ASSERT_NE(other, b.end());
    expect_same_bits(completion, other->second);
  }
}

/// Completions as whole sequences for one pass, and what was drawn in them: token i of all by the
/// hidden state of rows[i].
struct DrawnRows {
  std::vector<std::vector<int32_t>> sequences;
  std::vector<int32_t> rows, targets;
  std::vector<float> log_probs;
};
inline DrawnRows drawn_rows(const GenerateRequest& request, const CompletionMap& completions) {
  DrawnRows drawn;
  int32_t first_row = 0;
  for (const auto& [key, completion] : completions) {
    std::vector<int32_t> tokens = request.prompts[key.first - 10].token_ids;
    for (size_t i = 0; i < completion.token_ids.size(); ++i) {
      drawn.rows.push_back(first_row + static_cast<int32_t>(tokens.size()) - 1);
      drawn.targets.push_back(completion.token_ids[i]);
      drawn.log_probs.push_back(completion.log_probs[i]);
      tokens.push_back(completion.token_ids[i]);
    }
    first_row += static_cast<int32_t>(tokens.size());
    drawn.sequences.push_back(std::move(tokens));
  }
  return drawn;
}

/// Everything that an engine held was given back.
inline void expect_empty(const Engine& engine) {
  const EngineStatus status = engine.status();
  EXPECT_EQ(status.queued_sequences, 0);
  EXPECT_EQ(status.running_sequences, 0);
  EXPECT_EQ(status.kv_blocks_free, status.kv_blocks_total);
}

/// The text of the exception of type Error that the call throws.
template <typename Error, typename Call>
std::string error_text(const Call& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "threw another type: " << e.what();
    return "";
  }
  ADD_FAILURE() << "threw nothing";
  return "";
}

}  // namespace moerl::testing
