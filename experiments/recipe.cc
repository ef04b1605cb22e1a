#include "experiments/recipe.h"

#include <algorithm>
#include <set>

#include "common/check.h"
#include "common/rng.h"

namespace moerl {

static void visit_fields(FieldVisitor& v, ModelSource& c) {
  v.field("path", c.path);
  v.field("config", c.config);
  v.field("tokenizer", c.tokenizer);
  v.choice("dtype", c.dtype, {"bf16", "f32", "fp8"});
  v.choice("mla_form", c.mla_form, {"", "expanded", "absorbed"});
  v.require(c.path.empty() != c.config.empty(), "exactly one of path and config must be given");
}

static void visit_fields(FieldVisitor& v, RolloutSettings& c) {
  v.field("addresses", c.addresses);
  v.field("num_workers", c.num_workers, {1, 64});
  v.field("kv_cache_gb", c.kv_cache_gb, kPositive);
  v.field("max_num_seqs", c.max_num_seqs, kAtLeastOne);
  v.field("max_batched_tokens", c.max_batched_tokens, kAtLeastOne);
  v.field("enforce_eager", c.enforce_eager);
  v.field("timeout_s", c.timeout_s, kPositive);
  v.field("keepalive_s", c.keepalive_s, {1, 1e6});
}

static void visit_fields(FieldVisitor& v, RewardPartSettings& c) {
  v.field("name", c.name);
  v.field("verifier", c.verifier);
  v.field("options", c.options);
  v.field("weight", c.weight);
  v.choice("gate", c.gate, {"always", "answered", "correct"});
  v.field("required", c.required);
  v.field("score_by_status", c.score_by_status);
  v.choice("needs", c.needs, {"", "completion", "correctness", "group"});
  v.require(!c.verifier.empty(), "a reward part needs a verifier");
}

static void visit_fields(FieldVisitor& v, RewardRoute& c) {
  v.field("data_sources", c.data_sources);
  v.list("parts", c.parts);
  v.require(!c.data_sources.empty() && !c.parts.empty(),
            "a reward route needs data_sources and parts");
}

static void visit_fields(FieldVisitor& v, RewardPlugin& c) {
  v.field("name", c.name);
  v.field("python", c.python);
  v.field("library", c.library);
  v.field("command", c.command);
  v.require(!c.name.empty() && !c.python.empty() + !c.library.empty() + !c.command.empty() == 1,
            "a reward plug-in needs a name and exactly one of python, library and command");
}

static void visit_fields(FieldVisitor& v, RewardSettings& c) {
  v.field("addresses", c.addresses);
  v.field("verifier", c.verifier);
  v.field("options", c.options);
  v.field("score_by_status", c.score_by_status);
  v.list("parts", c.parts);
  v.list("routes", c.routes);
  v.list("plugins", c.plugins);
  v.field("call_timeout_s", c.call_timeout_s, {0.001, 1e6});
  v.field("num_workers", c.num_workers, {1, 256});
  v.field("timeout_s", c.timeout_s, kPositive);
  v.field("max_unscorable", c.max_unscorable, kUnit);
  v.require(
      c.parts.empty() || (c.verifier.empty() && c.options.empty() && c.score_by_status.empty()),
      "either parts or one verifier with its options and score_by_status");
  v.require(c.plugins.empty() || c.addresses.empty(),
            "plugins run in the embedded service; give them to `moerl serve reward` instead of "
            "naming addresses here");
}

static void visit_fields(FieldVisitor& v, SamplingSettings& c) {
  v.field("n", c.n, kAtLeastOne);
  v.field("temperature", c.temperature, kPositive);
  v.field("top_p", c.top_p, {1e-6, 1});
  v.field("min_p", c.min_p, {0, 0.999});
  v.field("top_k", c.top_k, kNotNegative);
}

static void visit_fields(FieldVisitor& v, OverlongBuffer& c) {
  v.field("enable", c.enable);
  v.field("len", c.len, kAtLeastOne);
  v.field("penalty_factor", c.penalty_factor, kNotNegative);
}

static void visit_fields(FieldVisitor& v, FilterGroups& c) {
  v.field("enable", c.enable);
  v.field("max_num_gen_batches", c.max_num_gen_batches, kAtLeastOne);
}

static void visit_fields(FieldVisitor& v, StageConfig& c) {
  v.field("name", c.name);
  v.choice("type", c.type, {"sft", "grpo"});
  v.field("save_freq", c.save_freq, kNotNegative);
  v.field("test_freq", c.test_freq, kNotNegative);
  if (c.type == "sft") {
    v.group("sft", c.sft);
  } else if (c.type == "grpo") {
    v.field("train_batch_size", c.train_batch_size, kAtLeastOne);
    v.field("total_training_steps", c.total_training_steps, kAtLeastOne);
    v.field("max_response_length", c.max_response_length, kAtLeastOne);
    v.group("rollout", c.rollout);
    v.group("actor", c.actor);
    v.group("filter_groups", c.filter_groups);
    v.group("overlong_buffer", c.overlong_buffer);
    v.field("mask_truncated_completions", c.mask_truncated_completions);
    v.require(c.rollout.n >= 2, "rollout.n must be at least 2: a group of one has no advantage");
    v.require(c.actor.ppo_mini_batch_size <= c.train_batch_size,
              "actor.ppo_mini_batch_size must not exceed train_batch_size");
    v.require(!c.overlong_buffer.enable || c.overlong_buffer.len < c.max_response_length,
              "overlong_buffer.len must be below max_response_length");
  } else {
    v.require(false, "type must be sft or grpo");
  }
}

static void visit_fields(FieldVisitor& v, ValidationSettings& c) {
  v.field("n", c.n, kAtLeastOne);
  v.field("temperature", c.temperature, kNotNegative);
  v.field("top_p", c.top_p, {1e-6, 1});
  v.field("max_response_length", c.max_response_length, kNotNegative);
  v.field("before_train", c.before_train);
}

static void visit_fields(FieldVisitor& v, TrainerSettings& c) {
  v.field("save_freq", c.save_freq, kNotNegative);
  v.field("test_freq", c.test_freq, kNotNegative);
  v.field("max_ckpt_to_keep", c.max_ckpt_to_keep, kAtLeastOne);
  v.choice("resume_mode", c.resume_mode, {"auto", "disable"});
  v.field("log_samples", c.log_samples);
}

static void visit_fields(FieldVisitor& v, ParallelSettings& c) {
  v.field("data_parallel_size", c.data_parallel_size, kAtLeastOne);
  v.field("expert_parallel_size", c.expert_parallel_size, kAtLeastOne);
  v.field("timeout_s", c.timeout_s, kPositive);
  v.require(c.expert_parallel_size <= c.data_parallel_size,
            "expert_parallel_size must not exceed data_parallel_size: it divides the ranks, and "
            "there are at most as many as shards");
}

void visit_fields(FieldVisitor& v, Recipe& c) {
  v.field("name", c.name);
  v.field("seed", c.seed, kNotNegative);
  v.choice("device", c.device, {"cpu", "cuda"});
  v.field("num_threads", c.num_threads, {0, 4096});
  v.group("model", c.model);
  v.group("task", c.task);
  v.group("rollout", c.rollout);
  v.group("reward", c.reward);
  v.group("val", c.val);
  v.group("trainer", c.trainer);
  v.group("parallel", c.parallel);
  v.list("stages", c.stages);
  v.require(!c.stages.empty(), "stages must list at least one stage");
  v.require(c.parallel.expert_parallel_size == 1 || c.rollout.num_workers == 1,
            "rollout.num_workers must be 1 with parallel.expert_parallel_size: each rank samples "
            "with one engine");
  std::set<std::string> names;
  for (const StageConfig& stage : c.stages)
    v.require(!stage.name.empty() && names.insert(stage.name).second,
              "every stage needs a name of its own");
}

Recipe Recipe::from_file(const std::filesystem::path& path,
                         const std::vector<std::string>& overrides) {
  Recipe recipe;
  recipe.name = path.stem().string();
  recipe.directory = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  ConfigSource::from_file(path.string(), overrides).read(recipe);
  return recipe;
}

std::string Recipe::to_yaml() const { return ConfigDump::to_yaml(*this); }

std::filesystem::path Recipe::resolve(const std::string& path) const {
  const std::filesystem::path p = path;
  return p.is_absolute() ? p : directory / p;
}

uint64_t purpose_seed(uint64_t seed, std::string_view purpose) {
  return mix64(seed ^ mix64(hash64(purpose)));
}

int64_t Recipe::max_response_length() const {
  int64_t longest = val.max_response_length;
  for (const StageConfig& stage : stages)
    if (stage.type == "grpo") longest = std::max(longest, stage.max_response_length);
  return longest == 0 ? 256 : longest;
}

}  // namespace moerl
