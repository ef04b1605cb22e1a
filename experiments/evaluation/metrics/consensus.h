#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

namespace moerl::eval {

/// Which cluster wins when several are largest.
enum class TieRule {
  kAverage,    ///< all of them, in equal parts
  kFirstSeen,  ///< the one whose first vote came first
};

/// One sample's answer.
struct Vote {
  std::string answer;
  bool is_correct = false;
};

/// cons@k (maj@k): whether the answer that most samples of a problem agree on is correct.
///
/// Votes are clustered by the transitive closure of `equivalent`; equal texts, and answers that are
/// both correct, are equivalent without asking. A cluster is as correct as its first vote. The
/// result is in [0, 1]: a fraction only where tied clusters are averaged; 0 if there is no vote.
/// Source: Wang et al. 2022 (arXiv:2203.11171).
/// @param votes  in sample order; empty ones are samples without a usable answer and are dropped.
/// @param equivalent  whether the answers of votes i and j mean the same.
double consensus(std::span<const std::optional<Vote>> votes,
                 const std::function<bool(size_t i, size_t j)>& equivalent, TieRule tie_rule);

}  // namespace moerl::eval
