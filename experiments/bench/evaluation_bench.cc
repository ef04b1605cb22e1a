// `moerl eval` on the shape of configs/countdown.yaml, 1.1 M parameters: so small that whatever is
// not sampling shows. The engine alone gets the same prompts in the same minute.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "common/check.h"
#include "experiments/evaluation/evaluator.h"
#include "experiments/evaluation/records/eval_directory.h"
#include "experiments/fleet.h"
#include "experiments/model_source.h"
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

ModelConfig with_tokens_of(const policy::Tokenizer& tokenizer) {
  ModelConfig c = countdown_model();
  c.num_token_ids = tokenizer.vocab_size();
  return c;
}

/// The held-out problems of countdown, a model with random weights, what an evaluation consists of.
struct Setup {
  Setup() {
    recipe.rollout.kv_cache_gb = 0.25;
    recipe.rollout.max_num_seqs = 512;
    recipe.rollout.max_batched_tokens = 4096;
    recipe.reward.num_workers = ctx.num_threads();
    model.init_weights(1);
    model.pack(ctx, /*with_dgrad=*/false);
    plan = eval::validation_plan(recipe, task, tokenizer.stop_token_ids);
    plan.n = kSamples;
    plan.sampling.max_tokens = kMaxTokens;
  }

  Recipe recipe;
  ExecContext ctx{static_cast<int>(std::thread::hardware_concurrency())};
  TaskData task = load_task(recipe.task, "", 1);
  LoadedTokenizer tokenizer =
      fit_tokenizer(task.tokenizer_json, "the task's tokenizer", countdown_model(), "");
  Transformer model{with_tokens_of(tokenizer.tokenizer), DType::kBF16};
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
  Engine engine(setup.model, engine_config(setup.recipe.rollout), setup.ctx);
  GenerateRequest request;
  for (size_t i = 0; i < setup.plan.problems.size(); ++i)
    request.prompts.push_back(
        {i, setup.tokenizer.tokenizer.encode(setup.plan.problems[i].row.prompt)});
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
    Fleet fleet(setup.recipe, setup.ctx, setup.model, reward::make_verifier_registry());
    fleet.publish(setup.model, 0);
    Generator generator(
        fleet.workers(), fleet.rewards(), setup.tokenizer.tokenizer,
        make_reward_plan(setup.recipe.reward, setup.task.verifier),
        [&](const reward::RewardParts& parts) { return needs_of(setup.recipe.reward, parts); });
    eval::EvalDirectory directory(path, "{}", eval::problem_records(setup.plan));
    seconds = seconds_of([&] {
      evaluate(generator, setup.tokenizer.tokenizer, setup.plan, 0,
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
