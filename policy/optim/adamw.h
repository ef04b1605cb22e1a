#pragma once
#include <filesystem>
#include <vector>

#include "kernels/exec_context.h"
#include "policy/optim/optim_config.h"
#include "policy/parameter.h"

namespace moerl {

/// AdamW over the parameters of a model, with global-norm clipping. Parameters without a gradient
/// (buffers) are left alone. Bitwise repeatable at any thread count.
class AdamW {
 public:
  /// @param parameters  borrowed; gradients enabled.
  AdamW(std::vector<Parameter*> parameters, const OptimConfig& config);

  /// Clips the global gradient norm to config.grad_clip, updates every master, and zeroes the
  /// gradients.
  /// @return the norm before clipping.
  /// @throws NumericalError naming the first tensor whose gradient is not finite; nothing was
  /// changed then.
  double step(ExecContext& ctx, double lr);

  /// Updates so far.
  int64_t num_steps() const { return num_steps_; }

  /// Writes moments and step count, bit for bit, to one safetensors file; load() restores them.
  /// @throws IoError; on load also if a tensor is missing or its shape differs.
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);
  /// Forgets moments and step count, as at the start of a stage.
  void reset(const OptimConfig& config);
  /// Goes on with other settings, as after load().
  void set_config(const OptimConfig& config) { config_ = config; }

 private:
  struct State {
    Parameter* parameter;
    Tensor m, v;
  };
  std::vector<State> states_;
  OptimConfig config_;
  int64_t num_steps_ = 0;
};

}  // namespace moerl
