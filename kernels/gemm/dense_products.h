#pragma once
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "kernels/exec_context.h"
#include "kernels/gemm/dense_library.h"
#include "kernels/gemm/dense_proof.h"
#include "kernels/gemm/linear_impl.h"

namespace moerl::kernels {

/// Of a library's algorithms.
enum class Accept {
  kProven,  ///< the first that has the kernels' bits
  kFirst,   ///< the first, whatever its bits: for measuring what exactness costs, and nothing else
};

/// Gives products of kCuda to a library where that changes nothing but the time they take.
///
/// The first product of a shape makes the library's algorithms prove that they have the bits of the
/// kernels (dense_proof.h). The one that does is pinned as long as the process lives; where none
/// does, the kernels compute that shape. An algorithm that sums up the depth in one place has one
/// order for any number of rows, so the proof holds for those that no probe has.
///
/// Not offered: fp32; grouped products; fewer than kLeastRows rows, which is decoding; extents that
/// are no multiples of 8; what is captured in a CUDA graph; gradients of weights, which begin with
/// what is there.
/// Thread safety: products may come from several threads.
class DenseProducts {
 public:
  static constexpr int64_t kLeastRows = 256;

  /// Forgets what was pinned. REQUIRES: no product is under way.
  /// @param open  called when a product is first offered; null, or returning null: the kernels
  /// compute all.
  void use(std::function<std::unique_ptr<DenseLibrary>()> open, Accept accept = Accept::kProven);

  /// @return whether the library has computed it; if not, it is the kernels' to compute.
  /// @throws what `open`, the proof and the pinned algorithm throw.
  bool run(ExecContext& ctx, const LinearCudaProduct& args, bool transposed);

  /// What has been found about a shape, for people.
  std::string verdict(const DenseShape& shape) const;

 private:
  const DenseAlgorithm* algorithm_of(ExecContext& ctx, const DenseShape& shape);

  mutable std::mutex mutex_;
  std::function<std::unique_ptr<DenseLibrary>()> open_;
  Accept accept_ = Accept::kProven;
  std::unique_ptr<DenseLibrary> library_;
  std::map<DenseShape, DenseProof> proofs_;
};

/// Those of the process. The kernels compute all until use().
DenseProducts& dense_products();

}  // namespace moerl::kernels
