// Learners whose experts are spread over ranks: the bits of one rank, also in the files.
#include <gtest/gtest.h>

#include "common/file.h"
#include "policy/grpo/grpo_trainer.h"
#include "policy/sft/sft_trainer.h"
#include "policy/weights_io.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/child_process.h"
#include "tests/testing/thread_ranks.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kSteps = 3;

/// Ranks, and how many of them share one set of experts.
struct Layout {
  int num_ranks = 1;
  int64_t expert_parallel_size = 1;
};

/// What one rank of a run trains with.
struct Learner {
  Learner(Communicator& comm, const Layout& layout, int64_t num_shards)
      : ctx(1),
        parallel(comm, num_shards, layout.expert_parallel_size),
        model(make_model(ctx, tiny_config(), DType::kBF16, 7, parallel.experts())),
        optimizer(model->parameters(), {.lr = 1e-2, .grad_clip = 0.5}, parallel) {}
  void save(const fs::path& directory) {
    save_model(ctx, *model, directory, DType::kF32);
    optimizer.save(directory / "optimizer.safetensors");
  }
  void load(const fs::path& directory) {
    load_weights(ctx, *model, directory);
    optimizer.load(directory / "optimizer.safetensors");
  }
  ExecContext ctx;
  DataParallel parallel;
  std::unique_ptr<Transformer> model;
  AdamW optimizer;
};

/// What a run leaves: the metrics of every step, on all ranks the same, and the files.
struct Result {
  std::vector<std::map<std::string, double>> metrics;
  std::string weights, optimizer;
  bool operator==(const Result&) const = default;
};

/// @param step  trains the learner by one step.
using Step = std::function<std::map<std::string, double>(Learner& learner, int step)>;
/// @param make_step  of each rank.
using MakeStep = std::function<Step(Learner& learner)>;

/// Steps [first, last) in `directory`, which holds what earlier steps have left.
Result train(const Layout& layout, int64_t num_shards, const MakeStep& make_step, int first,
             int last, const fs::path& directory) {
  std::vector<Result> results(static_cast<size_t>(layout.num_ranks));
  ThreadRanks::run(layout.num_ranks, [&](Communicator& comm) {
    Learner learner(comm, layout, num_shards);
    if (first > 0) learner.load(directory);
    barrier(comm);  // all have read
    const Step step = make_step(learner);
    Result& result = results[static_cast<size_t>(comm.rank())];
    for (int i = first; i < last; ++i) result.metrics.push_back(step(learner, i));
    check_same_weights(*learner.model);
    learner.save(directory);
  });
  for (const Result& result : results) EXPECT_EQ(result.metrics, results[0].metrics);
  results[0].weights = read_file(directory / "model.safetensors");
  results[0].optimizer = read_file(directory / "optimizer.safetensors");
  return results[0];
}

void expect_same(const Result& got, const Result& expected, const Layout& layout) {
  EXPECT_EQ(got.metrics, expected.metrics);
  EXPECT_TRUE(got.weights == expected.weights && got.optimizer == expected.optimizer)
      << layout.num_ranks << " ranks, expert parallel size " << layout.expert_parallel_size
      << ": other bits than one rank's";
}

void check_run(int64_t num_shards, const std::vector<Layout>& layouts, const MakeStep& make_step) {
  TempDirectory directory;
  const Result one = train({}, num_shards, make_step, 0, kSteps, directory / "one");
  for (const Layout& layout : layouts)
    expect_same(train(layout, num_shards, make_step, 0, kSteps, directory / "many"), one, layout);
}

/// Micro-batches of unequal number in the shards of each step.
MakeStep sft_steps() {
  return [](Learner& learner) -> Step {
    const SftConfig config = {.max_token_len = 24,
                              .mtp_loss_weight = 0.3,
                              .aux_loss_alpha = 0.01,
                              .router_bias_update_rate = 0.01,
                              .optim = {.lr = 1e-2}};
    const auto trainer = std::make_shared<SftTrainer>(learner.ctx, *learner.model,
                                                      learner.optimizer, config, kSteps);
    return [trainer](Learner&, int step) {
      std::vector<TrainSequence> sequences;
      std::vector<const TrainSequence*> batch;
      for (int64_t length : {30, 3, 4, 20, 21, 5, 2, 9, 40}) {
        const auto seed = static_cast<uint64_t>(100 * step) + sequences.size();
        sequences.push_back({random_tokens(2, 61, seed), random_tokens(length, 61, seed + 50)});
      }
      for (const TrainSequence& s : sequences) batch.push_back(&s);
      return trainer->update(batch);
    };
  };
}

TEST(ExpertTrainingTest, SftHasTheBitsOfOneRank) {
  check_run(4, {{2, 2}, {4, 2}, {4, 4}, {4, 1}}, sft_steps());
}

TEST(ExpertTrainingTest, ARoundWithFewerShardsThanRanksHasIdleOnes) {
  check_run(5, {{4, 2}, {4, 4}}, sft_steps());
  check_run(3, {{2, 2}}, sft_steps());
}

TEST(ExpertTrainingTest, GrpoWithAReferenceHasTheBitsOfOneRank) {
  check_run(4, {{2, 2}, {4, 2}, {4, 4}}, [](Learner& learner) -> Step {
    GrpoConfig config;
    config.ppo_mini_batch_size = 2;
    config.ppo_max_token_len = 40;
    config.use_kl_loss = true;
    config.recompute = true;
    config.aux_loss_alpha = 0.01;
    config.entropy_coeff = 0.01;
    config.require_exact_rollout = false;
    config.optim.lr = 1e-2;
    const auto trainer = std::make_shared<GrpoTrainer>(
        learner.ctx, *learner.model, learner.optimizer, config, 0.9f, 40, 2 * kSteps);
    trainer->set_reference(
        make_model(learner.ctx, tiny_config(), DType::kBF16, 8, learner.parallel.experts()));
    return [trainer](Learner&, int step) {
      std::vector<GrpoSample> samples;
      for (int64_t length : {12, 30, 3, 17, 8, 1, 25, 6}) {
        const size_t i = samples.size();
        const auto seed = static_cast<uint64_t>(1000 * step) + i;
        GrpoSample& s = samples.emplace_back();
        s.group = static_cast<int64_t>(i / 2);
        s.sequence = {random_tokens(3, 61, seed), random_tokens(length, 61, seed + 50)};
        s.rollout_log_probs.assign(static_cast<size_t>(length), -4.0f);
        s.advantage = i % 2 == 0 ? 0.7f : -0.7f;
      }
      return trainer->update(samples);
    };
  });
}

TEST(ExpertTrainingTest, GoesOnWithAnotherLayout) {
  TempDirectory directory;
  const Result one = train({}, 4, sft_steps(), 0, kSteps, directory / "one");
  const std::pair<Layout, Layout> changes[] = {
      {{1, 1}, {2, 2}}, {{4, 4}, {1, 1}}, {{2, 2}, {4, 2}}, {{4, 2}, {4, 4}}};
  for (const auto& [before, after] : changes) {
    train(before, 4, sft_steps(), 0, 1, directory / "many");
    Result rest = train(after, 4, sft_steps(), 1, kSteps, directory / "many");
    rest.metrics.insert(rest.metrics.begin(), one.metrics[0]);
    expect_same(rest, one, after);
  }
}

TEST(ExpertTrainingTest, NamesTheExpertWhoseGradientIsNotFinite) {
  for (const Layout& layout : {Layout{1, 1}, Layout{2, 2}})
    EXPECT_THROW(
        {
          try {
            ThreadRanks::run(layout.num_ranks, [&](Communicator& comm) {
              Learner learner(comm, layout, 2);
              for (Parameter* p : learner.model->parameters())
                if (p->name == "model.layers.2.mlp.experts.6.up_proj.weight" && p->grad.defined())
                  p->grad.data<float>()[5] = std::numeric_limits<float>::infinity();
              learner.optimizer.add_shards(learner.ctx);
              learner.optimizer.step(learner.ctx, 0.1);
            });
          } catch (const NumericalError& error) {
            EXPECT_STREQ(error.what(),
                         "optimizer step 1: the gradient of "
                         "model.layers.2.mlp.experts.6.up_proj.weight is not finite");
            throw;
          }
        },
        NumericalError);
}

TEST(ExpertTrainingTest, FindsRanksWithOtherWeights) {
  for (const char* name : {"model.norm.weight", "model.layers.1.mlp.experts.5.down_proj.weight"})
    EXPECT_THROW(ThreadRanks::run(4,
                                  [&](Communicator& comm) {
                                    Learner learner(comm, {4, 2}, 4);
                                    for (Parameter* p : learner.model->parameters())
                                      if (p->name == name && comm.rank() == 3)
                                        p->value.data<float>()[0] += 1;
                                    check_same_weights(*learner.model);
                                  }),
                 ConfigError)
        << name;
}

}  // namespace
}  // namespace moerl::testing
