#include "experiments/memory_budget.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "common/check.h"
#include "experiments/fleet.h"
#include "experiments/model_source.h"
#include "experiments/reward_settings.h"
#include "experiments/stages/stage.h"
#include "kernels/cuda/backend.h"
#include "kernels/gemm/dense_proof.h"
#include "kernels/gemm/wgmma_products.h"
#include "kernels/loss/token_log_prob.h"
#include "policy/kv_cache.h"
#include "rollout/decode_graphs.h"

namespace moerl {
namespace {

/// Bytes that backward keeps for one token: the residual stream and what every layer saves, from
/// the shapes in policy/layers.
int64_t saved_bytes_per_token(const ModelConfig& c, DType dtype) {
  const int64_t grouped =
      (c.num_attention_heads + c.num_key_value_heads) * c.head_dim * (c.qk_norm ? 3 : 2);
  const int64_t latent = c.q_lora_rank.value_or(0) * 2 +
                         c.num_attention_heads * (c.qk_head_dim() * 2 + c.v_head_dim * 3) +
                         (c.kv_lora_rank + c.qk_rope_head_dim) * 2;
  const int64_t attention =
      (c.attention == AttentionKind::kGrouped ? grouped : latent) + c.hidden_size * 3;
  int64_t elements = 0;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    elements += attention + 2 * c.hidden_size;
    elements += c.is_moe_layer(layer)
                    ? c.num_experts_per_tok * (2 * c.hidden_size + 3 * c.moe_intermediate_size) +
                          3 * c.n_shared_experts * c.moe_intermediate_size + 2 * c.n_routed_experts
                    : 3 * c.intermediate_size;
  }
  return elements * dtype_size(dtype);
}

/// What proving that cuBLASLt and wgmma have the kernels' bits takes, at most: the former on the
/// widest of the products that are not grouped.
int64_t product_proof_bytes(const ModelConfig& c) {
  const int64_t attention = c.num_attention_heads * std::max(c.head_dim, c.qk_head_dim());
  const int64_t widest = std::max({c.vocab_size, 2 * c.intermediate_size, attention});
  return std::max(kernels::dense_proof_bytes(widest, c.hidden_size), kernels::wgmma_proof_bytes());
}

std::string gib(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%8.3f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

const char* memory_name(const Recipe& recipe) {
  return recipe.device == "cuda" ? "the CUDA device" : "the machine";
}

std::string describe(const Recipe& recipe, const ModelConfig& model, const TaskData& task) {
  std::string text = concat(
      "model     ", model.num_parameters(), " parameters, ", model.num_active_parameters(),
      " active for one token, ", recipe.model.dtype, ", ", model.attention_form(), " attention\n",
      "kv cache  ",
      KvCache::block_bytes(model, parse_precision(recipe.model.dtype).dtype) / kernels::kKvBlock,
      " bytes for one token\n", "task      ", task.train.size(), " training rows, ",
      task.val.size(), " held out, ", task.demonstrations.size(), " demonstrations\n");
  for (const StageConfig& stage : recipe.stages)
    text += concat("stage     ", stage.name, ": ", stage.type, ", ", num_stage_steps(stage, task),
                   " steps\n");
  return text;
}

}  // namespace

int64_t machine_memory() {
  return static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE);
}

int64_t activation_bytes_per_token(const ModelConfig& model, DType dtype, bool recompute) {
  return recompute ? model.hidden_size * model.num_hidden_layers * dtype_size(dtype)
                   : saved_bytes_per_token(model, dtype);
}

int64_t available_memory(const Recipe& recipe) {
  if (recipe.device == "cpu") return machine_memory();
  kernels::require_cuda();
  return static_cast<int64_t>(kernels::device_memory().total_memory());
}

MemoryBudget memory_budget(const Recipe& recipe, const ModelConfig& model) {
  const Precision precision = parse_precision(recipe.model.dtype);
  const DType dtype = precision.dtype;
  const int64_t parameters = model.num_parameters(), routed = model.num_routed_parameters();
  MemoryBudget budget;
  const int64_t ranks = recipe.parallel.data_parallel_size;
  const int64_t held = parameters - routed + routed / recipe.parallel.expert_parallel_size;
  // Rank 0 has all experts where it sends them.
  budget.masters = (recipe.rollout.addresses.empty() ? held : parameters) * 4;
  // Of its own experts a rank has a gradient for each rank of the group.
  budget.gradients = parameters * 4;
  if (ranks > 1) budget.gradients += parameters * 4 / ranks;
  budget.optimizer = parameters * 8 / ranks;
  const int64_t in_fp8 = precision.is_fp8 ? model.num_fp8_parameters() - (parameters - held) : 0;
  // One image serves both directions on CUDA, but not in FP8: there it is a byte, and a scale for
  // each block of 128 x 128.
  const auto working_weights = [&](int64_t directions) {
    const int64_t images = recipe.device == "cuda" ? 1 : directions;
    return (held - in_fp8) * images * dtype_size(dtype) + in_fp8 * directions * 4097 / 4096;
  };
  budget.working_weights = working_weights(2);
  if (recipe.rollout.addresses.empty()) {
    const EngineConfig engine = engine_config(recipe.rollout);
    budget.kv_cache = engine.kv_cache_bytes * recipe.rollout.num_workers;
    budget.workspace = recipe.rollout.num_workers * engine.max_num_seqs * model.vocab_size *
                       dtype_size(DType::kF32);
    if (recipe.device == "cuda" && !engine.enforce_eager &&
        recipe.parallel.expert_parallel_size == 1)
      budget.decode_graphs = recipe.rollout.num_workers *
                             DecodeGraphs::memory_estimate(model, precision, engine.max_num_seqs);
  }
  if (recipe.device == "cuda" && dtype == DType::kBF16)
    budget.product_proof = product_proof_bytes(model);
  for (const StageConfig& stage : recipe.stages) {
    const bool is_sft = stage.type == "sft";
    const int64_t tokens = is_sft ? stage.sft.max_token_len : stage.actor.ppo_max_token_len;
    const bool recompute = is_sft ? stage.sft.recompute : stage.actor.recompute;
    const int64_t per_token = activation_bytes_per_token(model, dtype, recompute);
    const int64_t cache = KvCache::block_bytes(model, dtype) / kernels::kKvBlock;
    budget.activations = std::max(budget.activations, tokens * (per_token + cache));
    budget.workspace = std::max(
        budget.workspace, kernels::token_log_prob_workspace_bytes(tokens, model.vocab_size, dtype));
    if (!is_sft && stage.actor.use_kl_loss) budget.reference = held * 4 + working_weights(1);
  }
  if (recipe.device == "cuda" && model.max_position_embeddings > kernels::kKvSplit)
    budget.workspace += kernels::kAttentionWorkspaceBytes;
  return budget;
}

std::string memory_table(const Recipe& recipe, const MemoryBudget& budget,
                         std::optional<int64_t> available) {
  const int64_t ranks = recipe.parallel.data_parallel_size,
                sharing = recipe.parallel.expert_parallel_size;
  std::string text = ranks == 1 ? "memory" : concat("memory of each of ", ranks, " ranks");
  text += sharing == 1 ? "\n" : concat(", ", sharing, " of which share the experts\n");
  std::vector<std::pair<const char*, int64_t>> rows = {
      {"weights (fp32 masters)", budget.masters},
      {"gradients", budget.gradients},
      {"optimizer", budget.optimizer},
      {"working weights", budget.working_weights},
      {"reference policy", budget.reference},
      {"kv cache", budget.kv_cache},
      {"activations (estimate)", budget.activations},
      {"workspace", budget.workspace},
      {"total", budget.total()}};
  if (budget.decode_graphs > 0)
    rows.emplace(rows.end() - 1, "decode graphs (estimate)", budget.decode_graphs);
  if (budget.product_proof > 0)
    rows.emplace(rows.end() - 1, "product proof (estimate)", budget.product_proof);
  if (available) rows.emplace_back("available", *available);
  for (const auto& [name, bytes] : rows) {
    char line[80];
    std::snprintf(line, sizeof line, "  %-24s %s\n", name, gib(bytes).c_str());
    text += line;
  }
  return text;
}

CheckedRecipe check_recipe(const Recipe& recipe, std::optional<int64_t> available) {
  CheckedRecipe checked;
  const auto attempt = [&](const auto& f) {
    try {
      f();
    } catch (const std::exception& error) {
      checked.problems.emplace_back(error.what());
    }
  };
  TaskData task;
  std::optional<ModelConfig> model;
  attempt(
      [&] { task = load_task(recipe.task, recipe.directory, static_cast<uint64_t>(recipe.seed)); });
  attempt([&] { model = load_model_config(recipe); });
  attempt([&] {
    check_rewards(recipe, task, *make_registry(recipe.reward.plugins, recipe.directory));
  });
  if (task.train.empty()) checked.problems.emplace_back("the task has no training rows");
  for (const StageConfig& stage : recipe.stages)
    if (stage.type == "sft" && task.demonstrations.empty())
      checked.problems.push_back(
          concat("stage ", stage.name, " needs demonstrations and the task has none"));
  for (const StageConfig& stage : recipe.stages) {
    const int64_t groups = stage.actor.ppo_mini_batch_size > 0 ? stage.actor.ppo_mini_batch_size
                                                               : stage.train_batch_size;
    const int64_t sequences =
        stage.type == "sft" ? stage.sft.train_batch_size : groups * stage.rollout.n;
    if (sequences < recipe.parallel.data_parallel_size)
      checked.problems.push_back(concat("stage ", stage.name, ": an update has ", sequences,
                                        " sequences, fewer than parallel.data_parallel_size = ",
                                        recipe.parallel.data_parallel_size));
  }
  if (!model) return checked;

  attempt([&] {
    const LoadedTokenizer tokenizer = load_tokenizer(recipe, task, *model);
    int64_t longest = 0;
    for (const std::vector<PromptRow>* rows : {&task.train, &task.val})
      for (const PromptRow& row : *rows)
        longest = std::max<int64_t>(
            longest, static_cast<int64_t>(tokenizer.tokenizer.encode(row.prompt).size()));
    const int64_t needed = longest + recipe.max_response_length();
    check(needed <= model->max_position_embeddings, "the longest prompt (", longest,
          " tokens) and max_response_length (", recipe.max_response_length(),
          ") exceed the model's ", "max_position_embeddings (", model->max_position_embeddings,
          ")");
  });
  attempt([&] {
    ExpertParallel::check_experts(model->n_routed_experts, recipe.parallel.expert_parallel_size);
  });
  const MemoryBudget budget = memory_budget(recipe, *model);
  attempt([&] {
    if (!available) available = available_memory(recipe);
    require_memory(recipe, budget, *available);
  });
  checked.summary = describe(recipe, *model, task) + memory_table(recipe, budget, available);
  return checked;
}

void require_memory(const Recipe& recipe, const MemoryBudget& budget, int64_t available) {
  if (budget.total() > available)
    throw ConfigError(concat("needs", gib(budget.total()), " of memory, ", memory_name(recipe),
                             " has", gib(available), "; ", kMemoryAdvice));
}

}  // namespace moerl
