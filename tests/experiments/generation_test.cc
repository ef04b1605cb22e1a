#include "experiments/generation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "common/rpc/server.h"
#include "policy/sequence_pass.h"
#include "policy/tokenizer_builder.h"
#include "reward/reward_service.h"
#include "reward/scorer.h"
#include "reward/verifier_registry.h"
#include "rollout/rollout_server.h"
#include "tests/policy/tiny_model.h"

namespace moerl::testing {
namespace {

/// Gives the length of the response as its score; correct if the response equals the ground truth.
class EchoVerifier final : public reward::Verifier {
 public:
  std::string_view name() const override { return "echo"; }
  std::string_view description() const override { return "echo"; }
  std::vector<std::string> part_names() const override { return {}; }
  void check_options(const reward::Options& options) const override {
    check(!options.contains("bad"), "option bad");
  }
  reward::Verdict score(const reward::Sample& sample, const reward::Options&,
                        const reward::WorkBudget&) const override {
    reward::Verdict verdict;
    verdict.status = sample.response == sample.ground_truth ? reward::VerdictStatus::kCorrect
                                                            : reward::VerdictStatus::kIncorrect;
    verdict.score = static_cast<double>(sample.response.size());
    verdict.extracted = sample.response;
    verdict.detail = sample.data_source + "|" + sample.prompt + "|" + sample.extra_info_json;
    return verdict;
  }
};

std::string small_tokenizer() {
  policy::TokenizerSpec spec;
  spec.special_tokens = {"<bos>", "<eos>"};
  return policy::build_tokenizer_json(spec);
}

/// Workers, reward service and generator in one process.
class GenerationTest : public ::testing::Test {
 protected:
  GenerationTest()
      : ctx_(2),
        tokenizer_(policy::Tokenizer::from_json(small_tokenizer())),
        model_(make_model(ctx_, model_config(), DType::kBF16)) {
    auto registry = reward::make_verifier_registry();
    registry->add(std::make_shared<EchoVerifier>());
    scorer_ = std::make_unique<reward::Scorer>(registry, reward::ScorerConfig{});
    service_ = std::make_unique<reward::RewardServiceImpl>(*scorer_);
    reward_server_ = std::make_unique<rpc::Server>(std::vector<grpc::Service*>{service_.get()}, "");
    rewards_ = std::make_unique<reward::RewardClient>(std::vector<reward::RewardServer>{
        {"embedded reward", reward_server_->in_process_channel()}});
    for (int i = 0; i < 5; ++i)
      rows_.push_back({.data_source = concat("source", i),
                       .prompt = std::string(static_cast<size_t>(i) + 1, 'q'),
                       .ground_truth = "x",
                       .extra_info_json = "{}"});
  }
  ~GenerationTest() override { rewards_.reset(); }

  ModelConfig model_config() const {
    ModelConfig c = plain_config();
    c.vocab_size = tokenizer_.vocab_size();
    return c;
  }
  /// Runs with so many embedded workers.
  std::vector<ScoredGroup> run(int num_workers, const std::string& verifier = "echo",
                               const reward::Options& options = {}) {
    std::vector<std::unique_ptr<RolloutServer>> servers;
    std::vector<WorkerPool::Worker> workers;
    for (int i = 0; i < num_workers; ++i) {
      servers.push_back(std::make_unique<RolloutServer>(
          *model_,
          RolloutServerConfig{.engine = {.num_kv_blocks = 64, .max_num_seqs = 8}, .address = {}},
          ctx_));
      workers.push_back({servers.back()->in_process_channel(), concat("worker ", i)});
    }
    WorkerPool pool(workers, {.prompts_per_call = 1});
    Generator generator(pool, *rewards_, tokenizer_,
                        {.parts = {{.verifier = verifier, .options = options}}},
                        [](const reward::RewardParts& parts) {
                          return std::vector<reward::SampleNeeds>(parts.size());
                        });
    std::vector<DrawnPrompt> prompts;
    for (size_t i = 0; i < rows_.size(); ++i)
      prompts.push_back({40 - i, &rows_[i], tokenizer_.encode(rows_[i].prompt)});
    const SamplingParams sampling = {.temperature = 1, .max_tokens = 12, .stop_token_ids = {1}};
    progress_.clear();
    return generator.run(
        std::move(prompts), kGroup, sampling, 3, 0,
        [this](int64_t done, int64_t total) {
          EXPECT_EQ(total, 5 * kGroup);
          progress_.push_back(done);
        },
        &times_);
  }

  static constexpr int64_t kGroup = 4;
  ExecContext ctx_;
  policy::Tokenizer tokenizer_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<reward::Scorer> scorer_;
  std::unique_ptr<reward::RewardServiceImpl> service_;
  std::unique_ptr<rpc::Server> reward_server_;
  std::unique_ptr<reward::RewardClient> rewards_;
  std::vector<PromptRow> rows_;
  std::vector<int64_t> progress_;
  GenerationTimes times_;
};

TEST_F(GenerationTest, EveryCompletionGetsItsOwnVerdict) {
  const std::vector<ScoredGroup> groups = run(1);
  ASSERT_EQ(groups.size(), rows_.size());
  std::set<std::string> texts;
  for (size_t i = 0; i < groups.size(); ++i) {
    EXPECT_EQ(groups[i].prompt.prompt_id, 40 - i);
    EXPECT_EQ(groups[i].prompt.row, &rows_[i]);
    ASSERT_EQ(groups[i].completions.size(), static_cast<size_t>(kGroup));
    for (size_t k = 0; k < static_cast<size_t>(kGroup); ++k) {
      const ScoredCompletion& c = groups[i].completions[k];
      EXPECT_EQ(c.completion.prompt_id, 40 - i);
      EXPECT_EQ(c.completion.sample_index, static_cast<int64_t>(k));
      std::vector<int32_t> tokens = c.completion.token_ids;
      if (c.completion.finish_reason == FinishReason::kStop) {
        EXPECT_EQ(tokens.back(), 1);
        tokens.pop_back();
      }
      EXPECT_EQ(c.response, tokenizer_.decode(tokens));
      EXPECT_EQ(c.verdict.extracted, c.response);
      EXPECT_EQ(c.verdict.score, static_cast<double>(c.response.size()));
      EXPECT_EQ(c.verdict.detail, concat("source", i, "|", rows_[i].prompt, "|{}"));
      texts.insert(c.response);
    }
  }
  EXPECT_GT(texts.size(), 10u);
  std::vector<int64_t> expected(5 * kGroup);
  std::iota(expected.begin(), expected.end(), 1);
  std::sort(progress_.begin(), progress_.end());
  EXPECT_EQ(progress_, expected);
  EXPECT_GT(times_.generate_s, 0);
  EXPECT_GE(times_.reward_tail_s, 0);
}

TEST_F(GenerationTest, NumberOfWorkersDoesNotChangeTheResult) {
  const std::vector<ScoredGroup> one = run(1), two = run(2);
  for (size_t i = 0; i < one.size(); ++i)
    for (size_t k = 0; k < one[i].completions.size(); ++k) {
      EXPECT_EQ(one[i].completions[k].completion, two[i].completions[k].completion);
      EXPECT_EQ(one[i].completions[k].verdict.score, two[i].completions[k].verdict.score);
    }
}

TEST_F(GenerationTest, SamplersLogProbsAreTheTrainersBitForBit) {
  for (const ScoredGroup& group : run(1)) {
    for (const ScoredCompletion& c : group.completions) {
      const TrainSequence s{group.prompt.token_ids, c.completion.token_ids};
      const TrainSequence* one = &s;
      KvCache cache(model_->config(), model_->dtype(), SequencePass::num_blocks_needed({&one, 1}));
      const SequencePass pass(ctx_, *model_, {&one, 1}, cache, {}, true);
      EXPECT_EQ(c.completion.log_probs,
                std::vector<float>(pass.log_probs().begin(), pass.log_probs().end()));
    }
  }
}

TEST_F(GenerationTest, ARefusedSampleEndsTheRunWithItsReason) {
  EXPECT_THROW(run(1, "no-such-verifier"), std::invalid_argument);
  EXPECT_THROW(run(1, "echo", {{"bad", "1"}}), std::invalid_argument);
  EXPECT_EQ(run(1).size(), 5u);  // the service goes on
}

}  // namespace
}  // namespace moerl::testing
