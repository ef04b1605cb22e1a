#pragma once
#include <filesystem>
#include <vector>

#include "kernels/exec_context.h"
#include "policy/optim/optim_config.h"
#include "policy/optim/parameter_slices.h"
#include "policy/parallel/data_parallel.h"
#include "policy/parameter.h"

namespace moerl {

/// AdamW over the parameters of a model, with global-norm clipping. Parameters without a gradient
/// (buffers) are left alone. Bitwise repeatable at any number of threads and ranks.
///
/// Over several ranks it is ZeRO-1 (Rajbhandari et al. 2020, arXiv:1910.02054): each rank holds the
/// moments of its slice of all elements, updates that slice of the weights and gets the others.
/// Every member but num_steps, reset and set_config is then called by all ranks together.
class AdamW {
 public:
  /// @param parameters  borrowed; gradients enabled.
  AdamW(std::vector<Parameter*> parameters, const OptimConfig& config,
        const DataParallel& parallel = {});

  /// The ranks, and the shards that an update's gradient is made of.
  const DataParallel& parallel() const { return parallel_; }

  /// Ends a round of shards: adds the gradients, of at most one shard from each rank, to those of
  /// the update in rank order, and zeroes them. Nothing to do where there is one shard: its
  /// gradients are the update's.
  void add_shards(ExecContext& ctx);

  /// Clips the global gradient norm to config.grad_clip, updates every master, and zeroes the
  /// gradients.
  /// @return the norm before clipping.
  /// @throws NumericalError naming the first tensor whose gradient is not finite; nothing was
  /// changed then.
  double step(ExecContext& ctx, double lr);

  /// Updates so far.
  int64_t num_steps() const { return num_steps_; }

  /// Writes moments and step count, bit for bit, to one safetensors file; load() restores them. The
  /// file does not depend on the number of ranks; rank 0 writes it, and holds the moments of all
  /// ranks meanwhile.
  /// @throws IoError; on load also if a tensor is missing or its shape differs.
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);
  /// Forgets moments and step count, as at the start of a stage.
  void reset(const OptimConfig& config);
  /// Goes on with other settings, as after load().
  void set_config(const OptimConfig& config) { config_ = config; }

 private:
  /// The gradient of an update over a run of this rank's slice.
  Tensor gradient(const ParameterRun& run, int64_t offset) const;
  double sum_of_squares(ExecContext& ctx) const;
  [[noreturn]] void throw_not_finite(ExecContext& ctx, double norm) const;
  void share_weights();
  /// The whole tensors, one for each parameter, of a slice that each rank has; on rank 0.
  std::vector<Tensor> gather_slices(const Tensor& slice) const;

  std::vector<Parameter*> parameters_;  // those with a gradient
  OptimConfig config_;
  DataParallel parallel_;
  ParameterSlices slices_;
  std::vector<ParameterRun> own_;  // this rank's slice
  Tensor m_, v_;                   // of it, fp32
  Tensor grad_sum_;                // of it, over the shards so far; undefined with one shard
  int64_t num_steps_ = 0;
};

}  // namespace moerl
