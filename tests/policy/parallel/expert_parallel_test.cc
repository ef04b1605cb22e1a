#include "policy/parallel/expert_parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "policy/sequence_pass.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/thread_ranks.h"

namespace moerl::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ExpertParallelTest, RanksFormGroups) {
  ThreadRanks::run(4, [](Communicator& comm) {
    const ExpertParallel pairs(comm, 2);
    EXPECT_EQ(pairs.group().size(), 2);
    EXPECT_EQ(pairs.group().rank(), comm.rank() % 2);
    EXPECT_EQ(pairs.replicas().size(), 2);
    EXPECT_EQ(pairs.replicas().rank(), comm.rank() / 2);
    EXPECT_EQ(pairs.num_own(8), 4);
    EXPECT_EQ(pairs.passes(comm.rank() == 1 ? 5 : 2), 5);
    // One without the other: a group of one meets nobody.
    EXPECT_EQ(ExpertParallel(comm, 1).passes(comm.rank()), comm.rank());
  });
}

TEST(ExpertParallelTest, SaysWhichSizesDoNotFit) {
  const auto message = [](const std::function<void()>& f) -> std::string {
    try {
      f();
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_EQ(message([] { ExpertParallel::check_ranks(3, 2); }),
            "3 ranks were launched, expected a multiple of parallel.expert_parallel_size = 2");
  EXPECT_EQ(message([] { ExpertParallel::check_ranks(1, 4); }),
            "1 rank was launched, expected a multiple of parallel.expert_parallel_size = 4");
  ThreadRanks::run(3, [&](Communicator& comm) {
    const ExpertParallel experts(comm, 3);
    EXPECT_THAT(message([&] {
                  Transformer(tiny_config(), DType::kF32, Masters::kKept, Device::kCpu, experts);
                }),
                HasSubstr("8 routed experts, expected a multiple of "
                          "parallel.expert_parallel_size = 3"));
  });
}

/// Rows of one rank, sorted by expert: row i for expert e holds (rank, e, i).
struct Rows {
  Rows(int rank, const std::vector<int64_t>& counts)
      : offsets(Tensor::zeros({std::ssize(counts) + 1}, DType::kI64)) {
    std::vector<float> values;
    for (size_t e = 0; e < counts.size(); ++e) {
      offsets.data<int64_t>()[e + 1] = offsets.data<int64_t>()[e] + counts[e];
      for (int64_t i = 0; i < counts[e]; ++i)
        for (float v : {static_cast<float>(rank), static_cast<float>(e), static_cast<float>(i)})
          values.push_back(v);
    }
    rows = Tensor::empty({std::ssize(values) / 3, 3}, DType::kF32);
    rows.copy_from_host(values.data());
  }
  Tensor offsets, rows;
};

/// Of 4 experts on each rank: uneven, none on rank 2, none for expert 1, all of rank 3 for
/// expert 3.
const std::vector<std::vector<int64_t>> kCounts = {
    {2, 0, 1, 4}, {1, 0, 3, 0}, {0, 0, 0, 0}, {0, 0, 0, 5}};

void check_dispatch(Communicator& comm, int64_t size) {
  ExecContext ctx(1);
  const ExpertParallel experts(comm, size);
  const Rows mine(comm.rank(), kCounts[static_cast<size_t>(comm.rank())]);
  const ExpertRoutes routes = experts.route(ctx, mine.offsets);
  const Tensor here = experts.dispatch(routes, mine.rows);

  const int64_t own = 4 / size, position = comm.rank() % size, group = comm.rank() - position;
  ASSERT_EQ(routes.offsets.numel(), size * own + 1);
  const int64_t* offsets = routes.offsets.data<int64_t>();
  EXPECT_EQ(here.dim(0), offsets[size * own]);
  for (int64_t source = 0; source < size; ++source)
    for (int64_t e = 0; e < own; ++e) {
      const int64_t expert = position * own + e, begin = offsets[source * own + e];
      const int64_t count =
          kCounts[static_cast<size_t>(group + source)][static_cast<size_t>(expert)];
      ASSERT_EQ(offsets[source * own + e + 1] - begin, count);
      for (int64_t i = 0; i < count; ++i)
        EXPECT_THAT(to_floats(here.rows(begin + i, begin + i + 1)),
                    ElementsAre(group + source, expert, i));
    }
  EXPECT_TRUE(same_bits(experts.combine(routes, here), mine.rows));
  EXPECT_EQ(here.raw() == mine.rows.raw(), size == 1) << "one process copies nothing";
}

TEST(ExpertParallelTest, RowsGoToTheirExpertsAndComeBack) {
  for (int64_t size : {1, 2, 4})
    ThreadRanks::run(4, [&](Communicator& comm) { check_dispatch(comm, size); });
  for (int64_t size : {1, 2})
    ThreadRanks::run(2, [&](Communicator& comm) { check_dispatch(comm, size); });
}

/// What one rank's sequences give: hidden states before backward, and the gradients.
struct Result {
  double loss = 0;
  Tensor hidden;
  std::vector<Tensor> grads;  // of the parameters; undefined for those that are not held
  std::vector<std::vector<Tensor>> peer_grads;
};

Tensor hidden_states(ExecContext& ctx, const Transformer& model,
                     const std::vector<std::vector<int32_t>>& sequences) {
  const SequenceBatch packed = pack_sequences(sequences);
  KvCache cache(model.config(), model.dtype(), std::max<int64_t>(packed.num_blocks, 1));
  return model.forward(ctx, packed.batch, cache);
}

Result run(ExecContext& ctx, Transformer& model, const std::vector<std::vector<int32_t>>& sequences,
           const LossOptions& options) {
  Result result{.hidden = hidden_states(ctx, model, sequences)};
  // Twice: what the first pass has added is where the second starts.
  for (int pass = 0; pass < 2; ++pass)
    result.loss = loss_and_gradients(ctx, model, sequences, options).loss;
  for (const Parameter* p : std::as_const(model).parameters()) {
    result.grads.push_back(p->grad.defined() ? p->grad.clone() : Tensor());
    result.peer_grads.push_back(p->peer_grads);
  }
  return result;
}

struct Case {
  ModelConfig config;
  DType dtype;
  LossOptions options;
  std::vector<std::vector<int64_t>> lengths;  // of each rank's sequences
  int num_favoured = 0;                       // experts that every token chooses from, if not 0
};

std::unique_ptr<Transformer> model_of(ExecContext& ctx, const Case& c,
                                      const ExpertParallel& experts = {}) {
  auto model = make_model(ctx, c.config, c.dtype, 7, experts);
  for (Parameter* p : model->parameters())
    if (p->is_buffer)
      for (int e = 0; e < c.num_favoured; ++e) p->value.data<float>()[e] += 10;
  return model;
}

void check_model(const Case& c, int64_t size) {
  const int num_ranks = static_cast<int>(c.lengths.size());
  const auto sequences_of = [&](int rank) {
    return random_sequences(c.lengths[static_cast<size_t>(rank)], c.config,
                            static_cast<uint64_t>(100 * rank));
  };
  std::vector<Result> alone;
  for (int rank = 0; rank < num_ranks; ++rank) {
    ExecContext ctx(1);
    alone.push_back(run(ctx, *model_of(ctx, c), sequences_of(rank), c.options));
  }
  ThreadRanks::run(num_ranks, [&](Communicator& comm) {
    ExecContext ctx(1);
    const ExpertParallel experts(comm, size);
    const auto model = model_of(ctx, c, experts);
    const Result together = run(ctx, *model, sequences_of(comm.rank()), c.options);
    const Result& expected = alone[static_cast<size_t>(comm.rank())];
    EXPECT_EQ(together.loss, expected.loss);
    EXPECT_TRUE(same_bits(together.hidden, expected.hidden));
    const std::vector<Parameter*> parameters = model->parameters();
    int64_t num_held = 0;
    for (size_t p = 0; p < parameters.size(); ++p) {
      const std::string& name = parameters[p]->name;
      if (parameters[p]->is_buffer) continue;
      if (name.find(".experts.") == std::string::npos) {
        EXPECT_TRUE(same_bits(together.grads[p], expected.grads[p])) << name;
        EXPECT_TRUE(together.peer_grads[p].empty()) << name;
        continue;
      }
      EXPECT_EQ(parameters[p]->value.has_memory(), experts.holds(*parameters[p])) << name;
      if (!experts.holds(*parameters[p])) continue;
      num_held += parameters[p]->value.numel();
      const int first = comm.rank() - comm.rank() % static_cast<int>(size);
      EXPECT_TRUE(same_bits(together.grads[p], alone[static_cast<size_t>(first)].grads[p])) << name;
      ASSERT_EQ(together.peer_grads[p].size(), static_cast<size_t>(size - 1));
      for (size_t i = 1; i < static_cast<size_t>(size); ++i)
        EXPECT_TRUE(same_bits(together.peer_grads[p][i - 1],
                              alone[static_cast<size_t>(first) + i].grads[p]))
            << name;
    }
    EXPECT_EQ(num_held * size, c.config.num_routed_parameters());
  });
}

TEST(ExpertParallelTest, TheModelHasTheBitsOfOneRank) {
  const LossOptions all = {.balance_alpha = 0.1, .mtp_weight = 0.3};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Case c{tiny_config(), dtype, all, {{5, 9}, {17}, {40, 2, 3}, {1}}};
    for (int64_t size : {1, 2, 4}) check_model(c, size);
    check_model({c.config, dtype, all, {{5, 9}, {17}}}, 2);
  }
}

TEST(ExpertParallelTest, RecomputedLayersMeetAgain) {
  check_model({tiny_config(), DType::kBF16, {.recompute = true, .mtp_weight = 0.3}, {{33}, {7, 8}}},
              2);
}

TEST(ExpertParallelTest, ARankWithoutTokensComputesForTheOthers) {
  check_model({tiny_config(), DType::kBF16, {.mtp_weight = 0.3}, {{}, {17}, {9, 4}, {}}}, 4);
  check_model({tiny_config(), DType::kBF16, {.recompute = true}, {{}, {17}}}, 2);
}

TEST(ExpertParallelTest, AllTokensMayGoToOneRank) {
  check_model({plain_config(), DType::kF32, {}, {{11}, {6, 7}}, 4}, 2);
}

TEST(ExpertParallelTest, TheFirstRankCanGatherTheExperts) {
  ExecContext one(1);
  const auto whole = make_model(one, tiny_config(), DType::kF32);
  ThreadRanks::run(4, [&](Communicator& comm) {
    ExecContext ctx(1);
    const auto model = make_model(ctx, tiny_config(), DType::kF32, 7, ExpertParallel(comm, 2));
    model->gather_experts();
    if (comm.rank() > 0) return;
    const std::vector<Parameter*> here = model->parameters(), there = whole->parameters();
    for (size_t p = 0; p < here.size(); ++p)
      EXPECT_TRUE(same_bits(here[p]->value, there[p]->value)) << here[p]->name;
  });
}

}  // namespace
}  // namespace moerl::testing
