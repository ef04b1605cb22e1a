#pragma once
#include <optional>
#include <string>
#include <vector>

#include "experiments/recipe.h"
#include "policy/model_config.h"

namespace moerl {

/// Bytes that a run needs at its peak, by what they hold; over several ranks, one of as many as the
/// run has shards.
struct MemoryBudget {
  int64_t masters = 0, gradients = 0;  ///< fp32 each; gradients with the sums over shards
  int64_t optimizer = 0;               ///< two moments, fp32
  int64_t working_weights = 0;         ///< packed images, forward and backward
  int64_t reference = 0;               ///< policy of the KL loss
  int64_t kv_cache = 0;                ///< of all embedded engines
  int64_t decode_graphs = 0;           ///< their CUDA graphs, estimated
  int64_t activations = 0;             ///< of the largest micro-batch, estimated
  int64_t workspace = 0;               ///< logits, and partial results of attention, at most
  int64_t product_proof = 0;           ///< of cuBLASLt and wgmma, at most
  int64_t total() const {
    return masters + gradients + optimizer + working_weights + reference + kv_cache +
           decode_graphs + activations + workspace + product_proof;
  }
};
MemoryBudget memory_budget(const Recipe& recipe, const ModelConfig& model);
/// What helps where memory is short.
inline constexpr char kMemoryAdvice[] =
    "lower the key-value cache (rollout.kv_cache_gb, --kv-cache-gb) or the micro-batch "
    "(ppo_max_token_len, "
    "max_token_len), or set recompute: true";
/// Bytes where the recipe's policy lives: this machine's, or those of its CUDA device.
/// @throws std::runtime_error if there is no such device.
int64_t available_memory(const Recipe& recipe);
/// For people: a line for each part, and the available bytes, if they are known.
std::string memory_table(const Recipe& recipe, const MemoryBudget& budget,
                         std::optional<int64_t> available);
/// @throws ConfigError if the budget exceeds the available bytes, saying what to change.
void require_memory(const Recipe& recipe, const MemoryBudget& budget, int64_t available);

/// Bytes that backward keeps for one token of a micro-batch, estimated from the shapes.
/// @param recompute  whether blocks are run again in backward: then it is the residual stream.
int64_t activation_bytes_per_token(const ModelConfig& model, DType dtype, bool recompute);

/// Main memory of this machine, in bytes.
int64_t machine_memory();

/// What a dry run finds out.
struct CheckedRecipe {
  std::string summary;                ///< for people: model, task, memory
  std::vector<std::string> problems;  ///< why the recipe cannot run here
};
/// Looks at everything that can be looked at without running: files, model, tokenizer, task,
/// verifier, memory.
/// @param available  bytes where the run shall be; none: here.
CheckedRecipe check_recipe(const Recipe& recipe, std::optional<int64_t> available = {});

}  // namespace moerl
