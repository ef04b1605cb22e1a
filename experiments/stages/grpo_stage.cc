#include <algorithm>
#include <chrono>
#include <cmath>

#include "common/check.h"
#include "common/clock.h"
#include "experiments/data_cursor.h"
#include "experiments/stages/grpo_metrics.h"
#include "experiments/stages/shared_samples.h"
#include "experiments/stages/stage.h"
#include "policy/grpo/group_advantage.h"
#include "policy/grpo/grpo_trainer.h"
#include "policy/weights_io.h"
#include "reward/verifiers/answer_text.h"

namespace moerl {
namespace {

/// The head of a text on one line.
std::string excerpt(const std::string& text, size_t max_bytes) {
  std::string out(reward::truncate_utf8(text, max_bytes));
  for (char& c : out)
    if (c == '\n' || c == '\r') c = ' ';
  return out.size() < text.size() ? out + "..." : out;
}

/// DAPO's soft penalty: 0 up to L_max - L_cache tokens, then falling linearly to -1 at L_max.
double overlong_penalty(const StageConfig& stage, int64_t length) {
  if (!stage.overlong_buffer.enable) return 0;
  const double over =
      static_cast<double>(length - (stage.max_response_length - stage.overlong_buffer.len));
  return -stage.overlong_buffer.penalty_factor *
         std::clamp(over / static_cast<double>(stage.overlong_buffer.len), 0.0, 1.0);
}

std::unique_ptr<Transformer> copy_of(const Transformer& policy, ExecContext& ctx) {
  auto copy = std::make_unique<Transformer>(policy.config(), policy.precision(), Masters::kKept,
                                            policy.device(), policy.experts());
  const std::vector<const Parameter*> from = policy.parameters();
  const std::vector<Parameter*> to = copy->parameters();
  for (size_t i = 0; i < from.size(); ++i)
    if (policy.experts().holds(*from[i])) to[i]->value.copy_from(from[i]->value);
  copy->pack(ctx, false);
  return copy;
}

/// One stage: the loop, and what it keeps between steps.
class GrpoStage {
 public:
  GrpoStage(Experiment& experiment, const StageConfig& stage)
      : experiment_(experiment),
        stage_(stage),
        state_(experiment.state()),
        cursor_(static_cast<int64_t>(experiment.task().train.size()),
                experiment.seed_for("data/" + stage.name)),
        trainer_(experiment.ctx(), experiment.policy(), experiment.optimizer(), stage.actor,
                 static_cast<float>(stage.rollout.temperature), stage.max_response_length,
                 stage.total_training_steps * updates_per_step()) {
    sampling_.temperature = stage.rollout.temperature;
    sampling_.top_k = stage.rollout.top_k;
    sampling_.top_p = stage.rollout.top_p;
    sampling_.min_p = stage.rollout.min_p;
    sampling_.max_tokens = stage.max_response_length;
    sampling_.stop_token_ids = experiment.tokenizer().stop_token_ids;
    if (stage.actor.use_kl_loss) start_reference();
  }

  void run() {
    while (state_.stage_step < stage_.total_training_steps) {
      StepTimes times;
      std::vector<ScoredGroup> groups;
      std::vector<GrpoSample> samples;
      Metrics metrics;
      experiment_.publish();
      experiment_.sample([&] {
        groups = sample_groups(times);
        samples = to_samples(groups);
        metrics = batch_metrics(groups, samples);
      });
      share_samples(experiment_.comm(), samples, state_.prompts_drawn);

      const auto start = std::chrono::steady_clock::now();
      if (samples.empty()) {
        experiment_.progress().note(
            "no group of this step had answers of different worth: no update");
      } else {
        metrics.merge(trainer_.update(samples));
        ++state_.policy_version;
      }
      times.update_s = seconds_since(start);

      if (stage_.actor.ref_update_freq > 0 &&
          (state_.stage_step + 1) % stage_.actor.ref_update_freq == 0 && stage_.actor.use_kl_loss)
        trainer_.set_reference(copy_of(experiment_.policy(), experiment_.ctx()));
      store(groups);
      add_timing(times, metrics);
      const std::string numbers = headline(metrics);
      experiment_.finish_step(stage_, std::move(metrics), numbers, stage_.total_training_steps,
                              trainer_.reference());
    }
  }

 private:
  int64_t updates_per_step() const {
    const int64_t size = stage_.actor.ppo_mini_batch_size;
    return stage_.actor.ppo_epochs * (size == 0 ? 1 : (stage_.train_batch_size + size - 1) / size);
  }

  void start_reference() {
    const std::filesystem::path& saved = experiment_.resumed_reference();
    std::unique_ptr<Transformer> reference = copy_of(experiment_.policy(), experiment_.ctx());
    if (!saved.empty()) load_weights(experiment_.ctx(), *reference, saved);
    trainer_.set_reference(std::move(reference));
  }

  /// Draws prompts, generates and scores. Groups that teach nothing are dropped and replaced by
  /// fresh prompts, at most filter_groups.max_num_gen_batches times; what is still missing then is
  /// left out.
  std::vector<ScoredGroup> sample_groups(StepTimes& times) {
    std::vector<ScoredGroup> kept;
    dropped_ = {};
    for (int64_t round = 0; round < stage_.filter_groups.max_num_gen_batches; ++round) {
      const int64_t missing = stage_.train_batch_size - static_cast<int64_t>(kept.size());
      if (missing == 0) break;
      std::vector<ScoredGroup> groups =
          experiment_.generator().run(draw(missing), stage_.rollout.n, sampling_,
                                      experiment_.seed_for("rollout/" + stage_.name),
                                      state_.policy_version, on_progress(), &times.generation);
      times.rounds += 1;
      for (ScoredGroup& group : groups) {
        times.generated_tokens += count_tokens(group);
        if (stage_.filter_groups.enable && has_zero_variance(rewards_of(group))) {
          dropped_.push_back(std::move(group));
        } else {
          kept.push_back(std::move(group));
        }
      }
    }
    check_unscorable(kept);
    return kept;
  }

  std::vector<DrawnPrompt> draw(int64_t count) {
    std::vector<DrawnPrompt> prompts;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = state_.prompts_drawn++;
      const PromptRow& row = experiment_.task().train[static_cast<size_t>(cursor_.row(position))];
      prompts.push_back({static_cast<uint64_t>(position), &row, experiment_.encode_prompt(row)});
    }
    return prompts;
  }

  /// What training maximises; NaN for an answer that could not be scored.
  double reward_of(const ScoredCompletion& c) const {
    if (reward::is_unscorable(c.verdict)) return std::nan("");
    return c.verdict.score +
           overlong_penalty(stage_, static_cast<int64_t>(c.completion.token_ids.size()));
  }
  std::vector<double> rewards_of(const ScoredGroup& group) const {
    std::vector<double> rewards;
    for (const ScoredCompletion& c : group.completions) rewards.push_back(reward_of(c));
    return rewards;
  }

  std::vector<GrpoSample> to_samples(const std::vector<ScoredGroup>& groups) const {
    std::vector<GrpoSample> samples;
    for (size_t g = 0; g < groups.size(); ++g) {
      const std::vector<float> advantages = group_advantages(
          rewards_of(groups[g]), stage_.actor.adv_estimator, stage_.actor.norm_adv_by_std_in_grpo);
      for (size_t i = 0; i < groups[g].completions.size(); ++i) {
        const ScoredCompletion& c = groups[g].completions[i];
        const bool truncated = c.completion.finish_reason == FinishReason::kLength;
        samples.push_back({.sequence = {groups[g].prompt.token_ids, c.completion.token_ids},
                           .rollout_log_probs = c.completion.log_probs,
                           .advantage = advantages[i],
                           .group = static_cast<int64_t>(g),
                           .in_loss = !reward::is_unscorable(c.verdict) &&
                                      !(truncated && stage_.mask_truncated_completions)});
      }
    }
    return samples;
  }

  Metrics batch_metrics(const std::vector<ScoredGroup>& groups,
                        const std::vector<GrpoSample>& samples) const {
    BatchStatistics statistics;
    for (const ScoredGroup& group : groups)
      statistics.add(group, rewards_of(group), stage_.max_response_length);
    for (const ScoredGroup& group : dropped_)
      statistics.add(group, rewards_of(group), stage_.max_response_length);
    for (const GrpoSample& sample : samples) statistics.add_advantage(sample.advantage);
    Metrics metrics = statistics.metrics(static_cast<int64_t>(dropped_.size()));
    metrics.merge(experiment_.take_reward_metrics());
    return metrics;
  }

  /// A share of samples without a score above the recipe's limit is a fault of the service or of
  /// the data.
  void check_unscorable(const std::vector<ScoredGroup>& kept) const {
    constexpr size_t kExamples = 5;
    double total = 0, unscorable = 0;
    std::map<std::string, std::string> examples;  // by what is wrong, so that each is another one
    const auto count = [&](const std::vector<ScoredGroup>& groups) {
      for (const ScoredGroup& group : groups) {
        for (const ScoredCompletion& c : group.completions) {
          total += 1;
          if (!reward::is_unscorable(c.verdict)) continue;
          unscorable += 1;
          const PromptRow& row = *group.prompt.row;
          const std::string what =
              concat(reward::status_name(c.verdict.status), ": ", excerpt(c.verdict.detail, 300));
          if (examples.size() < kExamples)
            examples.emplace(what, concat("data source '", row.data_source, "', ground truth '",
                                          excerpt(row.ground_truth, 100), "', response '",
                                          excerpt(c.response, 200), "'"));
        }
      }
    };
    count(kept);
    count(dropped_);
    const double limit = experiment_.recipe().reward.max_unscorable;
    if (unscorable <= limit * total) return;
    std::string text = concat(unscorable, " of ", total, " samples could not be scored, more than ",
                              "reward.max_unscorable = ", limit, "; such as");
    for (const auto& [what, where] : examples) text += concat("\n  ", what, "\n    ", where);
    throw std::runtime_error(text);
  }

  void store(const std::vector<ScoredGroup>& groups) const {
    if (experiment_.samples() == nullptr) return;
    std::vector<SampleRecord> records;
    const auto add = [&](const std::vector<ScoredGroup>& from, bool in_loss) {
      for (const ScoredGroup& group : from) {
        const std::vector<double> rewards = rewards_of(group);
        const std::vector<float> advantages = group_advantages(
            rewards, stage_.actor.adv_estimator, stage_.actor.norm_adv_by_std_in_grpo);
        for (size_t i = 0; i < group.completions.size(); ++i)
          records.push_back(to_record(group, i, state_.global_step + 1, stage_.name, "train",
                                      rewards[i], advantages[i], in_loss));
      }
    };
    add(groups, true);
    add(dropped_, false);
    experiment_.samples()->add(records);
  }

  Generator::OnProgress on_progress() const {
    return [this](int64_t done, int64_t total) {
      experiment_.progress().update(concat("generating ", done, "/", total));
    };
  }

  Experiment& experiment_;
  const StageConfig& stage_;
  RunState& state_;
  DataCursor cursor_;
  GrpoTrainer trainer_;
  SamplingParams sampling_;
  std::vector<ScoredGroup> dropped_;  // of the current step
};

}  // namespace

void run_grpo_stage(Experiment& experiment, const StageConfig& stage) {
  GrpoStage(experiment, stage).run();
}

}  // namespace moerl
