#pragma once
// A tiny random model with a byte tokenizer, written as a Hugging Face directory.
#include <filesystem>
#include <string>

#include "common/file.h"
#include "policy/tokenizer_builder.h"
#include "policy/weights_io.h"
#include "tests/policy/tiny_model.h"

namespace moerl::testing {

inline constexpr const char* kBos = "<s>";
inline constexpr const char* kEos = "</s>";
inline constexpr int64_t kTinyTokens = 258;  ///< two special ones and the bytes
inline constexpr int64_t kTinyVocab = 270;   ///< the model's rows: the last twelve are padding

inline ModelConfig tiny_text_config() {
  ModelConfig config = tiny_config();
  config.vocab_size = kTinyVocab;
  config.num_nextn_predict_layers = 0;
  config.eos_token_id = 1;
  return config;
}

/// tokenizer.json with the ids <s> 0, </s> 1, then the bytes.
inline std::string tiny_tokenizer_json() {
  return policy::build_tokenizer_json({.tokens = {}, .special_tokens = {kBos, kEos}});
}

/// Writes config.json, fp32 weights and, if it is not empty, tokenizer.json.
inline void write_tiny_directory(ExecContext& ctx, const std::filesystem::path& directory,
                                 const std::string& tokenizer_json = tiny_tokenizer_json(),
                                 const ModelConfig& config = tiny_text_config()) {
  save_model(ctx, *make_model(ctx, config, DType::kF32), directory, DType::kF32);
  if (!tokenizer_json.empty()) write_file_atomic(directory / "tokenizer.json", tokenizer_json);
}

}  // namespace moerl::testing
