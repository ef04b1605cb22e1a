#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>

#include "policy/transformer.h"

namespace moerl {

/// The config.json of a Hugging Face model directory. @throws IoError, ConfigError.
ModelConfig read_model_config(const std::filesystem::path& directory);

/// Whether the weights of a directory are those of a model of this shape; reads headers alone.
/// @throws IoError as load_weights does.
void check_weights(const ModelConfig& config, const std::filesystem::path& directory);

/// Loads every parameter and buffer from the safetensors of a Hugging Face model directory (F32,
/// BF16, F16, or F8_E4M3 with block scales); see Transformer::load.
/// The duplicates of embedding and head that checkpoints hold (those of the MTP module, lm_head
/// under tied embeddings) are accepted and not read; so is a whole MTP module that the model was
/// configured without.
/// @throws IoError listing every tensor that is missing, unexpected or of another shape; then
/// nothing was changed.
void load_weights(ExecContext& ctx, Transformer& model, const std::filesystem::path& directory);

/// read_model_config and load_weights in one.
std::unique_ptr<Transformer> load_model(ExecContext& ctx, const std::filesystem::path& directory,
                                        Precision precision, Masters masters = Masters::kKept);

inline constexpr int64_t kDefaultShardBytes = int64_t{5} << 30;

/// Writes config.json and the weights as a Hugging Face model directory that transformers loads;
/// creates the directory. Each file is replaced atomically. Called by all ranks that the model is
/// spread over: rank 0 writes, and gets the experts of the others one tensor at a time.
/// @param dtype  F32: every bit of the masters; BF16: rounded to nearest even, buffers stay F32.
/// @throws IoError; std::invalid_argument if the model keeps no masters.
void save_model(ExecContext& ctx, const Transformer& model, const std::filesystem::path& directory,
                DType dtype, int64_t max_shard_bytes = kDefaultShardBytes);

/// A 64-bit fingerprint of all masters and buffers: names, shapes and fp32 bits. The order of the
/// tensors does not matter. It finds mistakes and damage, not malice.
/// @throws std::invalid_argument if the model keeps no masters.
uint64_t weights_hash(const Transformer& model);
/// That of a model of the same shape once it is loaded from the directory; reads it.
/// @throws IoError as load_weights does.
uint64_t weights_hash(ExecContext& ctx, const Transformer& model,
                      const std::filesystem::path& directory);

/// @throws ConfigError naming a rank that holds other weights than the first one that holds the
/// same parameters. Called by all ranks that the model is spread over.
void check_same_weights(const Transformer& model);

}  // namespace moerl
