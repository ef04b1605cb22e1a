#pragma once
#include <filesystem>
#include <functional>
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
/// moments of its slice of the elements that it and others hold, updates that slice of the weights
/// and gets the others. Under expert parallel the ranks with the same experts divide those.
/// Every member but num_steps, reset and set_config is then called by all ranks together.
class AdamW {
 public:
  /// @param parameters  of a model with parallel.experts(); borrowed; gradients enabled.
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
  /// file does not depend on the number of ranks; rank 0 writes it, one tensor at a time.
  /// @throws IoError; on load also if a tensor is missing or its shape differs.
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);
  /// Forgets moments and step count, as at the start of a stage.
  void reset(const OptimConfig& config);
  /// Goes on with other settings, as after load().
  void set_config(const OptimConfig& config) { config_ = config; }

 private:
  /// Parameters that the same ranks hold, cut into a slice for each of them: those that every rank
  /// holds, and the experts of this rank, if not all have all.
  struct Share {
    Communicator* comm;             // those ranks
    int holder;                     // of its parameters
    int64_t num_sources;            // gradients of each parameter that one rank has
    std::vector<ParameterRun> own;  // this rank's slice
    Tensor m, v;                    // of it, fp32
    Tensor grad_sum;                // of it, over the shards so far; undefined with one shard
  };

  void add_share(Communicator& comm, int holder, int64_t num_sources);
  /// The parameters with this holder, cut for the ranks that have them.
  const ParameterSlices& slices(int holder) const {
    return slices_[static_cast<size_t>(holder - Parameter::kEveryRank)];
  }
  /// Calls f for the runs of this rank's slices. @param offset  of the run in the share's tensors.
  void for_each_run(
      const std::function<void(const Share&, const ParameterRun&, int64_t offset)>& f) const;
  /// This rank's gradients of the runs, one source's after the other's.
  Tensor gradients_of(const Share& share, const std::vector<ParameterRun>& runs) const;
  /// The gradient of an update over a run of this rank's slice.
  Tensor gradient(const Share& share, const ParameterRun& run, int64_t offset) const;
  void zero_gradients(ExecContext& ctx);
  double sum_of_squares(ExecContext& ctx) const;
  [[noreturn]] void throw_not_finite(ExecContext& ctx, double norm) const;
  void share_weights();
  /// A moment of one parameter, on the host of rank 0; undefined on the others.
  Tensor gather(size_t parameter, Tensor Share::*moment) const;

  std::vector<Parameter*> parameters_;  // all that learn, also those of other ranks
  OptimConfig config_;
  DataParallel parallel_;
  std::vector<ParameterSlices> slices_;  // by holder
  std::vector<Share> shares_;
  std::vector<int64_t> offsets_;  // of each parameter's run in its share's tensors
  int64_t num_steps_ = 0;
};

}  // namespace moerl
