#include "experiments/evaluation/metrics/consensus.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

namespace moerl::eval {
namespace {

/// The cluster of each vote, named by the cluster's first vote.
class Clusters {
 public:
  explicit Clusters(size_t n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), 0); }
  size_t first_of(size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(size_t i, size_t j) {
    const size_t a = first_of(i), b = first_of(j);
    parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<size_t> parent_;
};

}  // namespace

double consensus(std::span<const std::optional<Vote>> votes,
                 const std::function<bool(size_t i, size_t j)>& equivalent, TieRule tie_rule) {
  Clusters clusters(votes.size());
  for (size_t j = 0; j < votes.size(); ++j) {
    if (!votes[j]) continue;
    for (size_t i = 0; i < j; ++i) {
      if (!votes[i] || clusters.first_of(i) == clusters.first_of(j)) continue;
      if (votes[i]->answer == votes[j]->answer || (votes[i]->is_correct && votes[j]->is_correct) ||
          equivalent(i, j))
        clusters.join(i, j);
    }
  }
  std::map<size_t, int64_t> sizes;  // by first vote
  for (size_t i = 0; i < votes.size(); ++i)
    if (votes[i]) ++sizes[clusters.first_of(i)];
  int64_t largest = 0;
  for (const auto& [first, size] : sizes) largest = std::max(largest, size);
  double correct = 0, tied = 0;
  for (const auto& [first, size] : sizes) {
    if (size != largest) continue;
    tied += 1;
    correct += votes[first]->is_correct ? 1 : 0;
    if (tie_rule == TieRule::kFirstSeen) break;
  }
  return tied == 0 ? 0 : correct / tied;
}

}  // namespace moerl::eval
