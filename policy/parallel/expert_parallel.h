#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/exec_context.h"
#include "policy/parallel/communicator.h"
#include "policy/parameter.h"

namespace moerl {

/// Where the rows of one layer's experts are computed: made by ExpertParallel::route, for one pass.
struct ExpertRoutes {
  /// [E n + 1] i64, of the rows that come here for the n own experts: row group s n + e are those
  /// for own expert e from rank s of the group, in the order that they have there.
  Tensor offsets;
  std::vector<int64_t> sent, received;  ///< rows to and from each rank; empty in a group of one
};

/// Expert parallel: how the routed experts are spread over ranks. E ranks that follow each other
/// form a group, in which rank i holds the experts [i n / E, (i + 1) n / E) of every layer's n. A
/// token's row goes to the ranks of its experts and the results come back, so that no bit depends
/// on E: a row of a grouped product depends on that row and the weights alone, results are added in
/// the order of a token's slots, and gradients are summed apart for each rank that sends rows.
///
/// All ranks run the same passes together, and one that has no tokens left goes on without any:
/// see passes().
class ExpertParallel {
 public:
  /// One process, which holds all experts.
  ExpertParallel();
  /// @param comm  all ranks; borrowed. @param size  E.
  /// @throws ConfigError as check_ranks.
  ExpertParallel(Communicator& comm, int64_t size);

  /// @throws ConfigError unless size divides num_ranks.
  static void check_ranks(int num_ranks, int64_t size);
  /// @throws ConfigError unless a layer's experts can be divided among `size` ranks.
  static void check_experts(int64_t num_experts, int64_t size);

  int64_t size() const { return size_; }
  /// All ranks.
  Communicator& comm() const { return *comm_; }
  /// The ranks that share one set of experts, this one among them.
  Communicator& group() const { return *group_; }
  /// The ranks that hold the same experts as this one, one of each group.
  Communicator& replicas() const { return *replicas_; }

  /// Experts of a layer that one rank holds. @throws ConfigError as check_experts.
  int64_t num_own(int64_t num_experts) const;
  /// Whether this rank holds the parameter.
  bool holds(const Parameter& parameter) const {
    return parameter.holder == Parameter::kEveryRank || parameter.holder == group_->rank();
  }
  /// The master of a parameter that some rank of the first group holds, on the host of rank 0;
  /// undefined on the others. Called by all ranks.
  Tensor on_first_rank(const Parameter& parameter) const;

  /// How many passes all ranks run together when this one has work for `mine`: the most that any
  /// of them has. In a group of one, which meets nobody in a pass, `mine`.
  int64_t passes(int64_t mine) const;

  // Called by all ranks of a pass together. In a group of one they hand on what they are given.

  /// @param offsets  [n + 1] i64, of rows sorted by expert.
  ExpertRoutes route(ExecContext& ctx, const Tensor& offsets) const;
  /// Sends rows to the ranks of their experts. @param rows [R, D], sorted by expert.
  /// @return the rows for the own experts, grouped by routes.offsets.
  Tensor dispatch(const ExpertRoutes& routes, const Tensor& rows) const;
  /// The inverse: sends rows back to where they were dispatched from.
  Tensor combine(const ExpertRoutes& routes, const Tensor& rows) const;

 private:
  Communicator* comm_;
  int64_t size_;
  std::shared_ptr<Communicator> group_, replicas_;
};

}  // namespace moerl
