#pragma once
#include <string>

#include "kernels/cuda/wgmma_proof.h"
#include "kernels/gemm/linear_impl.h"

namespace moerl::kernels {

/// Gives large bf16 products of kCuda to the kernels of LinearWgmmaCuda, where that changes nothing
/// but the time they take.
///
/// The first large product has them prove it (WgmmaProof): forward, dgrad and wgrad with tiles of
/// either width, forward and dgrad on the probes of dense_proof.h. The order of an element's sum is
/// the same for every extent, so the proof holds for those that no probe has.
///
/// Not offered: fp32; fewer than a tile's rows for a group, on average; few columns or little
/// depth; extents that are no multiples of 8. Thread safety: products may come from several
/// threads.
class WgmmaProducts {
 public:
  static constexpr int64_t kLeastRows = 128, kLeastColumns = 128, kLeastDepth = 64;

  WgmmaProducts();

  /// @return whether it is computed; if not, LinearCuda has to.
  /// @throws what the kernels throw, and std::runtime_error out of memory in the proof.
  bool run(ExecContext& ctx, const LinearCudaProduct& args, bool transposed);
  bool run(ExecContext& ctx, const LinearCudaWgrad& args);

  /// What has been found, for people.
  std::string verdict() const;

 private:
  WgmmaProof proof_;
};

/// Those of the process.
WgmmaProducts& wgmma_products();

/// What the proof takes of the device's memory, at most.
int64_t wgmma_proof_bytes();

}  // namespace moerl::kernels
