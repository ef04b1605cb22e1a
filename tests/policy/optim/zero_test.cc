// AdamW over several ranks: the moments of each are a slice, the result is that of one process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>

#include "common/error.h"
#include "policy/optim/adamw.h"
#include "tests/policy/tiny_model.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/thread_ranks.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

/// Several blocks of the norm's sum, windows of the exchange, and parameters smaller than a block.
const Shape kShapes[] = {{300, 500}, {7}, {2, 16384}, {90}};
const OptimConfig kConfig{.weight_decay = 0.1, .grad_clip = 1.5};

struct Model {
  Model() {
    for (const Shape& shape : kShapes) {
      const uint64_t seed = all.size();
      all.push_back({std::string(1, static_cast<char>('a' + seed)),
                     random_tensor(shape, DType::kF32, seed), Tensor::zeros(shape, DType::kF32)});
    }
  }
  std::vector<Parameter*> parameters() {
    std::vector<Parameter*> pointers;
    for (Parameter& p : all) pointers.push_back(&p);
    return pointers;
  }
  /// The gradients of one shard of a step.
  void set_gradients(int64_t step, int64_t shard) {
    for (size_t i = 0; i < all.size(); ++i)
      all[i].grad = random_tensor(all[i].value.shape(), DType::kF32,
                                  static_cast<uint64_t>(1000 + step * 100 + shard * 10) + i);
  }
  std::vector<Parameter> all;
};

void run_step(ExecContext& ctx, Model& model, AdamW& optimizer, int64_t step,
              std::vector<double>& norms) {
  optimizer.parallel().for_each_shard<int>(
      [&](int64_t shard) {
        model.set_gradients(step, shard);
        return 0;
      },
      [&] { optimizer.add_shards(ctx); });
  norms.push_back(optimizer.step(ctx, 0.01));
}

/// What three steps give on `size` ranks: on every one of them the same.
struct Result {
  std::vector<Tensor> weights;
  std::vector<double> norms;
  std::string state;  // the file
};

Result train(int size, int64_t num_shards, int resumed_with = 0) {
  const fs::path path =
      fs::path(::testing::TempDir()) / concat("moerl_zero_", ::getpid(), "_", size, ".safetensors");
  std::vector<Result> results(static_cast<size_t>(size));
  Model start;
  if (resumed_with > 0)
    ThreadRanks::run(resumed_with, [&](Communicator& comm) {
      ExecContext ctx(1);
      Model model;
      AdamW optimizer(model.parameters(), kConfig, DataParallel(comm, num_shards));
      std::vector<double> norms;
      run_step(ctx, model, optimizer, 0, norms);
      optimizer.save(path);
      if (comm.rank() == 0) start = model;
    });
  ThreadRanks::run(size, [&](Communicator& comm) {
    ExecContext ctx(1);
    Result& result = results[static_cast<size_t>(comm.rank())];
    Model model;
    AdamW optimizer(model.parameters(), kConfig, DataParallel(comm, num_shards));
    if (resumed_with > 0) {
      for (size_t i = 0; i < model.all.size(); ++i) model.all[i].value = start.all[i].value.clone();
      optimizer.load(path);
      result.norms.push_back(0);
    }
    barrier(comm);  // all have read the file
    for (int64_t step = resumed_with > 0 ? 1 : 0; step < 3; ++step)
      run_step(ctx, model, optimizer, step, result.norms);
    optimizer.save(path);
    for (const Parameter& p : model.all) result.weights.push_back(p.value);
  });
  std::ifstream file(path, std::ios::binary);
  results[0].state.assign(std::istreambuf_iterator<char>(file), {});
  fs::remove(path);
  for (const Result& result : results)
    for (size_t i = 0; i < result.weights.size(); ++i)
      EXPECT_TRUE(same_bits(result.weights[i], results[0].weights[i]));
  return results[0];
}

void expect_same(const Result& a, const Result& b) {
  for (size_t i = 0; i < a.weights.size(); ++i)
    EXPECT_TRUE(same_bits(a.weights[i], b.weights[i])) << i;
  EXPECT_EQ(a.norms.back(), b.norms.back());
  EXPECT_TRUE(a.state == b.state) << "the saved moments differ";
}

TEST(ZeroTest, RanksChangeNoBit) {
  for (int64_t num_shards : {4, 5}) {
    const Result one = train(1, num_shards);
    for (int size : {2, 3, 4}) expect_same(train(size, num_shards), one);
  }
}

TEST(ZeroTest, GoesOnWithAnotherNumberOfRanks) {
  const Result one = train(1, 4);
  expect_same(train(2, 4, 1), one);
  expect_same(train(1, 4, 4), one);
  expect_same(train(3, 4, 2), one);
}

TEST(ZeroTest, TheGradientIsTheSumOfTheShards) {
  ExecContext ctx(1);
  Model sharded, summed;
  AdamW shards(sharded.parameters(), kConfig, DataParallel(single_process(), 3)),
      sum(summed.parameters(), kConfig);
  std::vector<double> norms;
  run_step(ctx, sharded, shards, 0, norms);
  for (size_t i = 0; i < summed.all.size(); ++i)
    for (int64_t shard = 0; shard < 3; ++shard) {
      Model part;
      part.set_gradients(0, shard);
      float* to = summed.all[i].grad.data<float>();
      for (int64_t j = 0; j < summed.all[i].grad.numel(); ++j)
        to[j] += part.all[i].grad.data<float>()[j];
    }
  EXPECT_EQ(sum.step(ctx, 0.01), norms[0]);
  for (size_t i = 0; i < summed.all.size(); ++i)
    EXPECT_TRUE(same_bits(sharded.all[i].value, summed.all[i].value));
}

TEST(ZeroTest, EveryRankNamesTheTensorThatIsNotFinite) {
  for (int bad_rank : {0, 1}) {
    int num_errors = 0;
    std::mutex mutex;
    ThreadRanks::run(2, [&](Communicator& comm) {
      ExecContext ctx(1);
      Model model;
      AdamW optimizer(model.parameters(), kConfig, DataParallel(comm, 2));
      model.set_gradients(0, comm.rank());
      if (comm.rank() == bad_rank)
        model.all[3].grad.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
      optimizer.add_shards(ctx);
      try {
        optimizer.step(ctx, 0.01);
      } catch (const NumericalError& error) {
        std::lock_guard lock(mutex);
        ++num_errors;
        EXPECT_THAT(error.what(), ::testing::HasSubstr("the gradient of d is not finite"));
      }
    });
    EXPECT_EQ(num_errors, 2);
  }
}

}  // namespace
}  // namespace moerl::testing
