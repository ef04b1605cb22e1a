#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "policy/parallel/collectives.h"
#include "policy/parallel/expert_parallel.h"
#include "policy/transformer.h"

namespace moerl {

/// How the sequences of an update are divided. The number of shards belongs to the recipe and to
/// the numerics: the gradient of an update is ((shard 0 + shard 1) + shard 2) + …. Which rank
/// computes a shard does not: shard s is rank s mod size's, and the same bits come from one rank as
/// from any number up to that of the shards.
class DataParallel {
 public:
  /// One process, one shard.
  DataParallel() : DataParallel(single_process(), 1) {}
  /// @param comm  borrowed. @param expert_parallel_size  ranks that share one set of experts.
  /// @throws ConfigError as check_ranks and ExpertParallel.
  DataParallel(Communicator& comm, int64_t num_shards, int64_t expert_parallel_size = 1);

  /// @throws ConfigError if there are more ranks than shards.
  static void check_ranks(int num_ranks, int64_t num_shards);

  Communicator& comm() const { return *comm_; }
  int64_t num_shards() const { return num_shards_; }
  const ExpertParallel& experts() const { return experts_; }

  /// Divides sequences into runs of about as many tokens each, a function of the lengths alone.
  /// @param lengths  tokens of each sequence.
  /// @return num_shards() + 1 ascending borders; a run may be empty.
  std::vector<int64_t> split(std::span<const int64_t> lengths) const;

  /// In rounds of a shard for each rank: calls run(shard), or idle() in a last round that has none
  /// for this rank, and end_round(), which all ranks reach together.
  /// @return what run gave for every shard, in their order, on every rank.
  template <typename Figures>
  std::vector<Figures> for_each_shard(
      const std::function<Figures(int64_t shard)>& run, const std::function<void()>& end_round,
      const std::function<void()>& idle = [] {}) const {
    std::vector<Figures> mine;
    for (int64_t first = 0; first < num_shards_; first += comm_->size()) {
      const int64_t shard = first + comm_->rank();
      if (shard < num_shards_) {
        mine.push_back(run(shard));
      } else {
        idle();
      }
      end_round();
    }
    const std::vector<std::vector<Figures>> by_rank = all_gather(*comm_, mine);
    std::vector<Figures> all;
    for (int64_t shard = 0; shard < num_shards_; ++shard)
      all.push_back(by_rank[static_cast<size_t>(shard % comm_->size())]
                           [static_cast<size_t>(shard / comm_->size())]);
    return all;
  }

  /// for_each_shard of sequences divided by split(lengths): run gets a shard's first sequence and
  /// how many it has; none on an idle rank.
  template <typename Figures>
  std::vector<Figures> for_each_part(std::span<const int64_t> lengths,
                                     const std::function<Figures(size_t first, size_t count)>& run,
                                     const std::function<void()>& end_round) const {
    const std::vector<int64_t> borders = split(lengths);
    return for_each_shard<Figures>(
        [&](int64_t shard) {
          const auto first = static_cast<size_t>(borders[static_cast<size_t>(shard)]);
          return run(first, static_cast<size_t>(borders[static_cast<size_t>(shard) + 1]) - first);
        },
        end_round, [&] { run(lengths.size(), 0); });
  }

  /// Calls run(first, count) for the micro-batches of a shard, in order, and then with a count of 0
  /// as long as other ranks need the experts of this one for theirs.
  /// @param borders  ascending: micro-batch i is sequences [borders[i], borders[i + 1]).
  void for_each_micro_batch(std::span<const int64_t> borders,
                            const std::function<void(size_t first, size_t count)>& run) const;

  /// The sum of every rank's counts, on every rank.
  RoutingCounts add_up(const RoutingCounts& counts) const;

 private:
  Communicator* comm_;
  int64_t num_shards_;
  ExpertParallel experts_;
};

}  // namespace moerl
