#include "kernels/gemm/dense_products.h"

#include <utility>

#include "kernels/cuda/graph.h"

namespace moerl::kernels {
namespace {

bool is_offered(const LinearCudaProduct& args) {
  constexpr int64_t kUnit = 8;  // 16 bytes, to which rows are aligned then
  return args.rows >= DenseProducts::kLeastRows && args.dtype == DType::kBF16 &&
         args.groups.count == 0 && args.columns > 0 && args.columns % kUnit == 0 &&
         args.depth > 0 && args.depth % kUnit == 0 && !cuda_ops<GraphCuda>().is_capturing();
}

DenseProof first_of(DenseLibrary& library, const DenseShape& shape) {
  std::vector<std::unique_ptr<DenseAlgorithm>> algorithms = library.algorithms(shape);
  if (algorithms.empty()) return {nullptr, "the library has no algorithm"};
  return {std::move(algorithms.front()), "algorithm 1, unproven"};
}

}  // namespace

void DenseProducts::use(std::function<std::unique_ptr<DenseLibrary>()> open, Accept accept) {
  const std::lock_guard lock(mutex_);
  proofs_.clear();  // before the library, which the algorithms use
  library_.reset();
  open_ = std::move(open);
  accept_ = accept;
}

bool DenseProducts::run(ExecContext& ctx, const LinearCudaProduct& args, bool transposed) {
  if (!is_offered(args)) return false;
  const DenseAlgorithm* algorithm =
      algorithm_of(ctx, {transposed, args.y_dtype, args.accumulate, args.columns, args.depth});
  if (algorithm == nullptr) return false;
  algorithm->run(args.rows, args.x, args.weight, args.y);
  return true;
}

const DenseAlgorithm* DenseProducts::algorithm_of(ExecContext& ctx, const DenseShape& shape) {
  const std::lock_guard lock(mutex_);
  if (open_) {
    library_ = open_();
    open_ = nullptr;
  }
  if (library_ == nullptr) return nullptr;
  auto found = proofs_.find(shape);
  if (found == proofs_.end())
    found = proofs_
                .emplace(shape, accept_ == Accept::kProven ? prove(ctx, *library_, shape)
                                                           : first_of(*library_, shape))
                .first;
  return found->second.algorithm.get();
}

std::string DenseProducts::verdict(const DenseShape& shape) const {
  const std::lock_guard lock(mutex_);
  const auto found = proofs_.find(shape);
  return found == proofs_.end() ? "kernels, no library was asked" : found->second.verdict;
}

DenseProducts& dense_products() {
  // Never destroyed: a library's device may be gone by then.
  static auto* products = new DenseProducts;
  return *products;
}

}  // namespace moerl::kernels
