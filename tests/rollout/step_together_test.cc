#include "rollout/step_together.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "policy/parallel/collectives.h"
#include "tests/rollout/tiny_model.h"
#include "tests/testing/thread_ranks.h"

namespace moerl::testing {
namespace {

/// One rank's part of the model, and its engine.
struct Rank {
  Rank(Communicator& comm, int64_t size, bool is_packed = true)
      : ctx(1),
        model(tiny_config(), DType::kBF16, Masters::kKept, Device::kCpu,
              ExpertParallel(comm, size)) {
    model.init_weights(3);
    if (is_packed) model.pack(ctx);
    engine.emplace(model, tiny_engine_config(), ctx);
  }
  ExecContext ctx;
  Transformer model;
  std::optional<Engine> engine;
};

/// Samples of one engine, when they have all come.
struct Pending {
  explicit Pending(Engine& engine, const GenerateRequest& request) {
    engine.submit(request, {.on_completion =
                                [this](Completion c) {
                                  const auto key = std::pair(c.prompt_id, c.sample_index);
                                  completions.emplace(key, std::move(c));
                                },
                            .on_done =
                                [this](std::exception_ptr error) {
                                  error ? done.set_exception(error) : done.set_value();
                                }});
  }
  CompletionMap completions;
  std::promise<void> done;
};

/// The same without the ranks that `is_idle` names.
void check_samples(int num_ranks, int64_t size, const std::set<int>& idle) {
  const GenerateRequest request = tiny_request(9, 3, 25);
  TinyModel tiny;
  Engine alone(tiny.model, tiny_engine_config(), tiny.ctx);
  const CompletionMap expected = generate(alone, request);

  std::vector<Engine*> engines(static_cast<size_t>(num_ranks));
  ThreadRanks::run(num_ranks, [&](Communicator& comm) {
    Rank rank(comm, size);
    engines[static_cast<size_t>(comm.rank())] = &*rank.engine;
    barrier(comm);
    for (int time = 0; time < 2; ++time)
      step_together(comm, *rank.engine, [&] {
        EXPECT_EQ(comm.rank(), 0);
        std::vector<std::unique_ptr<Pending>> parts;
        size_t next = 0;
        for (const TokenizedPrompt& prompt : request.prompts) {
          while (idle.contains(static_cast<int>(next % engines.size()))) ++next;
          GenerateRequest part = request;
          part.prompts = {prompt};
          parts.push_back(std::make_unique<Pending>(*engines[next++ % engines.size()], part));
        }
        CompletionMap all;
        for (const auto& part : parts) {
          part->done.get_future().get();
          all.merge(part->completions);
        }
        expect_same_bits(all, expected);
      });
    expect_empty(*rank.engine);
    barrier(comm);  // rank 0 uses all engines
  });
}

TEST(StepTogetherTest, SamplesAreThoseOfOneRank) {
  check_samples(2, 2, {});
  check_samples(4, 4, {});
  check_samples(4, 2, {});
}

TEST(StepTogetherTest, AnEngineWithoutWorkComputesForTheOthers) {
  check_samples(2, 2, {0});
  check_samples(4, 4, {1, 3});
  check_samples(4, 2, {2, 3});
}

TEST(StepTogetherTest, AnErrorOfOneRankReachesAll) {
  const auto run = [](const std::function<void(Engine & first)>& body) {
    ThreadRanks::run(2, [&](Communicator& comm) {
      Rank rank(comm, 2, comm.rank() == 0);
      step_together(comm, *rank.engine, [&] { body(*rank.engine); });
    });
  };
  EXPECT_THAT(error_text<std::invalid_argument>([&] {
                run([](Engine& engine) {
                  Pending pending(engine, tiny_request(1, 1, 5));
                  EXPECT_ANY_THROW(pending.done.get_future().get());
                });
              }),
              ::testing::HasSubstr("no working image"));
  EXPECT_EQ(error_text<std::runtime_error>(
                [&] { run([](Engine&) { throw std::runtime_error("no verdict"); }); }),
            "no verdict");
}

}  // namespace
}  // namespace moerl::testing
