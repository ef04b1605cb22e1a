#include <chrono>

#include "experiments/data_cursor.h"
#include "experiments/stages/stage.h"

namespace moerl {
namespace {

/// The demonstrations as token ids, each completion closed by the stop token.
std::vector<TrainSequence> tokenize(const Experiment& experiment) {
  const LoadedTokenizer& tokenizer = experiment.tokenizer();
  std::vector<TrainSequence> sequences;
  for (const DemoRow& row : experiment.task().demonstrations) {
    TrainSequence& s = sequences.emplace_back();
    s.prompt = tokenizer.tokenizer.encode(row.prompt);
    s.completion = tokenizer.tokenizer.encode(row.completion);
    s.completion.push_back(tokenizer.stop_token_ids.front());
  }
  return sequences;
}

}  // namespace

void run_sft_stage(Experiment& experiment, const StageConfig& stage) {
  const std::vector<TrainSequence> sequences = tokenize(experiment);
  const int64_t steps = num_stage_steps(stage, experiment.task());
  RunState& state = experiment.state();
  SftTrainer trainer(experiment.ctx(), experiment.policy(), experiment.optimizer(), stage.sft,
                     steps);
  DataCursor cursor(static_cast<int64_t>(sequences.size()),
                    experiment.seed_for("data/" + stage.name));

  while (state.stage_step < steps) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<const TrainSequence*> batch;
    for (int64_t i = 0; i < stage.sft.train_batch_size; ++i)
      batch.push_back(&sequences[static_cast<size_t>(cursor.row(state.prompts_drawn++))]);
    std::map<std::string, double> metrics = trainer.update(batch);
    ++state.policy_version;

    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    metrics["timing_s/update_actor"] = seconds;
    metrics["perf/throughput"] = metrics["train/tokens"] / seconds;
    char headline[128];
    std::snprintf(headline, sizeof headline, "loss %.3f · %.0f tok/s", metrics["train/loss"],
                  metrics["perf/throughput"]);
    experiment.finish_step(stage, std::move(metrics), headline, steps, nullptr);
  }
}

}  // namespace moerl
