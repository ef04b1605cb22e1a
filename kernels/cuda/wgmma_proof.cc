#include "kernels/cuda/wgmma_proof.h"

#include <atomic>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/graph.h"

namespace moerl::kernels {
namespace {

std::atomic<bool> is_enabled = true;

}  // namespace

bool device_has_wgmma() {
  const DeviceMemoryCuda& device = device_memory();
  return device.is_emulated || device.architecture() == "sm_90";
}

void enable_wgmma(bool enabled) { is_enabled = enabled; }

bool WgmmaProof::holds(ExecContext& ctx) {
  if (!is_enabled) return false;
  const std::lock_guard lock(mutex_);
  if (!result_.has_value()) {
    if (cuda_ops<GraphCuda>().is_capturing()) return false;
    result_ = device_has_wgmma() && agree_(ctx);
  }
  return *result_;
}

std::optional<bool> WgmmaProof::result() const {
  const std::lock_guard lock(mutex_);
  return result_;
}

}  // namespace moerl::kernels
