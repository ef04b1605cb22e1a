#pragma once
#include <functional>
#include <mutex>
#include <optional>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// Whether the device is a Hopper, or emulates one.
bool device_has_wgmma();

/// Whether an op's kernels by Hopper's wgmma may stand in for those by mma.sync. That both round
/// alike is written nowhere, so the kernels are compared on random operands before the first of
/// them is used; if a bit differs they never are. Thread safety: any thread may ask.
class WgmmaProof {
 public:
  /// @param agree  compares them. What it throws, holds() throws, and the question stays open.
  explicit WgmmaProof(std::function<bool(ExecContext&)> agree) : agree_(std::move(agree)) {}

  /// False on a device without wgmma, while they are disabled, and while a CUDA graph is captured
  /// before the proof, which copies to the host.
  bool holds(ExecContext& ctx);

  /// What has been found; nothing before the proof.
  std::optional<bool> result() const;

 private:
  const std::function<bool(ExecContext&)> agree_;
  mutable std::mutex mutex_;
  std::optional<bool> result_;
};

/// Whether kernels by wgmma are used in this process where they are proven; so it is until this
/// says otherwise. For comparisons.
void enable_wgmma(bool enabled);

}  // namespace moerl::kernels
