#include "policy/parallel/data_parallel.h"

#include <algorithm>

namespace moerl {

DataParallel::DataParallel(Communicator& comm, int64_t num_shards, int64_t expert_parallel_size)
    : comm_(&comm), num_shards_(num_shards), experts_(comm, expert_parallel_size) {
  check_ranks(comm.size(), num_shards);
}

void DataParallel::check_ranks(int num_ranks, int64_t num_shards) {
  if (num_ranks > num_shards)
    throw ConfigError(concat(num_ranks, " ranks were launched, more than parallel.",
                             "data_parallel_size = ", num_shards));
}

std::vector<int64_t> DataParallel::split(std::span<const int64_t> lengths) const {
  int64_t total = 0;
  for (int64_t length : lengths) total += length;
  std::vector<int64_t> borders = {0};
  int64_t before = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    // A sequence belongs to the shard in which its middle lies.
    while (static_cast<int64_t>(borders.size()) < num_shards_ &&
           (2 * before + lengths[i]) * num_shards_ >=
               2 * total * static_cast<int64_t>(borders.size()))
      borders.push_back(static_cast<int64_t>(i));
    before += lengths[i];
  }
  borders.resize(static_cast<size_t>(num_shards_) + 1, static_cast<int64_t>(lengths.size()));
  return borders;
}

void DataParallel::for_each_micro_batch(
    std::span<const int64_t> borders,
    const std::function<void(size_t first, size_t count)>& run) const {
  const int64_t own = std::ssize(borders) - 1, all = experts_.passes(own);
  for (int64_t i = 0; i < all; ++i) {
    const int64_t begin = borders[static_cast<size_t>(std::min(i, own))];
    const int64_t end = borders[static_cast<size_t>(std::min(i + 1, own))];
    run(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  }
}

RoutingCounts DataParallel::add_up(const RoutingCounts& counts) const {
  std::vector<int64_t> flat;  // of each layer: number of experts, their counts
  for (const std::vector<int64_t>& layer : counts.per_layer) {
    flat.push_back(static_cast<int64_t>(layer.size()));
    flat.insert(flat.end(), layer.begin(), layer.end());
  }
  RoutingCounts sum;
  for (const std::vector<int64_t>& from : all_gather(*comm_, flat)) {
    RoutingCounts part;
    for (auto at = from.begin(); at != from.end();) {
      const auto begin = at + 1, end = begin + *at;
      part.per_layer.emplace_back(begin, end);
      at = end;
    }
    sum.add(part);
  }
  return sum;
}

}  // namespace moerl
