// `moerl eval` with 16 samples a problem beside the engine alone on the same prompts: by default on
// the shape of configs/countdown.yaml, so small that whatever is not sampling shows;
// MOERL_BENCH_RUN names a run.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "common/check.h"
#include "experiments/evaluation/evaluator.h"
#include "experiments/evaluation/records/eval_directory.h"
#include "experiments/fleet.h"
#include "experiments/open_model.h"
#include "experiments/reward_settings.h"

namespace moerl::bench {
namespace {

constexpr int64_t kSamples = 16, kMaxTokens = 64;

ModelConfig countdown_model() {
  ModelConfig c;
  c.vocab_size = 512;
  c.hidden_size = 128;
  c.intermediate_size = 320;
  c.moe_intermediate_size = 96;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 4;
  c.kv_lora_rank = 64;
  c.qk_nope_head_dim = 32;
  c.qk_rope_head_dim = 16;
  c.v_head_dim = 32;
  c.n_routed_experts = 8;
  c.num_experts_per_tok = 2;
  c.max_position_embeddings = 512;
  c.bos_token_id = 0;
  c.eos_token_id = 1;
  return c;
}

/// The run that MOERL_BENCH_RUN names, else random weights and the default countdown task, whose
/// responses all end at kMaxTokens.
struct Setup {
  Setup() {
    if (const char* run = std::getenv("MOERL_BENCH_RUN")) {
      model = open_model(ctx, run);
      recipe = recipe_of(model.place).value();
      task = load_task(recipe.task, recipe.directory, static_cast<uint64_t>(recipe.seed));
    } else {
      recipe.rollout.kv_cache_gb = 0.25;
      recipe.rollout.max_num_seqs = 512;
      recipe.rollout.max_batched_tokens = 4096;
      task = load_task(recipe.task, "", 1);
      ModelConfig config = countdown_model();
      model.tokenizer = fit_tokenizer(task.tokenizer_json, "the task's tokenizer", config, "");
      config.num_token_ids = model.tokenizer->tokenizer.vocab_size();
      model.transformer = std::make_unique<Transformer>(config, DType::kBF16);
      model.transformer->init_weights(1);
      model.transformer->pack(ctx, /*with_dgrad=*/false);
    }
    recipe.reward.num_workers = ctx.num_threads();
    plan = eval::validation_plan(recipe, task, model.tokenizer->stop_token_ids);
    plan.n = kSamples;
    if (model.place.run.empty()) plan.sampling.max_tokens = kMaxTokens;
  }

  ExecContext ctx{static_cast<int>(std::thread::hardware_concurrency())};
  OpenedModel model;
  Recipe recipe;
  TaskData task;
  eval::EvalPlan plan;
};

template <typename Work>
double seconds_of(const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// @return tokens a second.
double engine_alone(Setup& setup) {
  Engine engine(*setup.model.transformer, engine_config(setup.recipe.rollout), setup.ctx);
  GenerateRequest request;
  for (size_t i = 0; i < setup.plan.problems.size(); ++i)
    request.prompts.push_back(
        {i, setup.model.tokenizer->tokenizer.encode(setup.plan.problems[i].row.prompt)});
  request.group_size = setup.plan.n;
  request.sampling = setup.plan.sampling;
  request.seed = setup.plan.seed;
  size_t tokens = 0;
  const double seconds = seconds_of([&] {
    engine.submit(std::move(request),
                  {.on_completion = [&](Completion c) { tokens += c.token_ids.size(); }});
    while (engine.step()) {
    }
  });
  return static_cast<double>(tokens) / seconds;
}

/// Sampling over gRPC, scoring, and every record on the disk. @return tokens a second.
double evaluation(Setup& setup) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / concat("moerl_evaluation_bench_", ::getpid());
  double tokens = 0, seconds = 0;
  {
    Fleet fleet(setup.recipe, setup.ctx, *setup.model.transformer,
                reward::make_verifier_registry());
    fleet.publish(*setup.model.transformer, 0);
    Generator generator(
        fleet.workers(), fleet.rewards(), setup.model.tokenizer->tokenizer,
        make_reward_plan(setup.recipe.reward, setup.task.verifier),
        [&](const reward::RewardParts& parts) { return needs_of(setup.recipe.reward, parts); });
    eval::EvalDirectory directory(path, "{}", eval::problem_records(setup.plan));
    seconds = seconds_of([&] {
      evaluate(generator, setup.model.tokenizer->tokenizer, setup.plan, 0,
               {.is_done = {},
                .on_record =
                    [&](const eval::EvalRecord& record) {
                      tokens += static_cast<double>(record.response_tokens);
                      directory.append(record);
                    },
                .on_progress = [](int64_t, int64_t) {}});
      directory.complete(static_cast<int64_t>(setup.plan.problems.size()) * setup.plan.n);
    });
  }
  std::filesystem::remove_all(path);
  return tokens / seconds;
}

void evaluate_groups_of_16(benchmark::State& state) {
  static Setup setup;
  double alone = 0, whole = 0;
  for (auto _ : state) {
    // In turns, as the machine's speed drifts.
    alone += engine_alone(setup);
    whole += evaluation(setup);
  }
  const auto rounds = static_cast<double>(state.iterations());
  state.counters["engine_tokens_per_s"] = alone / rounds;
  state.counters["tokens_per_s"] = whole / rounds;
  state.counters["engine_share"] = whole / alone;
}
BENCHMARK(evaluate_groups_of_16)->Iterations(3)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moerl::bench
