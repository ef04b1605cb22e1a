#include "kernels/gemm/wgmma_products.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/gemm/dense_proof.h"
#include "kernels/gemm/product_probe.h"

namespace moerl::kernels {
namespace {

constexpr int kNarrow = 128, kWide = 256;
constexpr int64_t kTileRows = 128, kMultiprocessors = 132;  // of a Hopper GPU

bool is_multiple(int64_t extent) { return extent % 8 == 0; }
bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

/// Rows that a group has on average.
int64_t rows_each(const LinearGroups& groups, int64_t rows) {
  return rows / std::max<int64_t>(1, groups.count);
}

bool is_offered(const LinearCudaProduct& args) {
  using Limits = WgmmaProducts;
  return args.dtype == DType::kBF16 && rows_each(args.groups, args.rows) >= Limits::kLeastRows &&
         args.columns >= Limits::kLeastColumns && args.depth >= Limits::kLeastDepth &&
         is_multiple(args.columns) && is_multiple(args.depth) && is_aligned(args.x) &&
         is_aligned(args.y) && is_aligned(args.weight);
}

bool is_offered(const LinearCudaWgrad& args) {
  using Limits = WgmmaProducts;
  return args.dtype == DType::kBF16 && args.rows >= Limits::kLeastRows &&
         args.columns >= Limits::kLeastColumns &&
         rows_each(args.groups, args.tokens) >= Limits::kLeastDepth && is_multiple(args.rows) &&
         is_multiple(args.columns) && is_aligned(args.dy) && is_aligned(args.x) &&
         is_aligned(args.dweight);
}

/// The wider tile, if there are enough of them for all multiprocessors.
int tile_columns(int64_t rows, int64_t columns, int64_t groups) {
  const int64_t tiles = divide_up(rows, kTileRows) * divide_up(columns, kWide) * groups;
  return tiles >= kMultiprocessors ? kWide : kNarrow;
}

/// The kernels as a library that has one algorithm for each shape: half the rows with narrow tiles,
/// half with wide ones.
class WgmmaLibrary : public DenseLibrary {
 public:
  /// An algorithm that throws is refused, as one with other bits is; but a kernel that fails is no
  /// answer.
  void throw_if_failed() const {
    if (failure_) std::rethrow_exception(failure_);
  }
  std::vector<std::unique_ptr<DenseAlgorithm>> algorithms(const DenseShape& shape) override {
    std::vector<std::unique_ptr<DenseAlgorithm>> all;
    all.push_back(std::make_unique<Algorithm>(shape, failure_));
    return all;
  }

 private:
  class Algorithm : public DenseAlgorithm {
   public:
    Algorithm(const DenseShape& shape, std::exception_ptr& failure)
        : shape_(shape), failure_(failure) {}
    void run(int64_t rows, const void* x, const void* weight, void* y) const override try {
      run_rows(0, rows / 2, x, weight, y, kNarrow);
      run_rows(rows / 2, rows, x, weight, y, kWide);
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }

   private:
    void run_rows(int64_t begin, int64_t end, const void* x, const void* weight, void* y,
                  int columns) const {
      const LinearWgmmaCuda& ops = cuda_ops<LinearWgmmaCuda>();
      const int64_t x_row = shape_.depth * dtype_size(DType::kBF16);
      const int64_t y_row = shape_.columns * dtype_size(shape_.y_dtype);
      (shape_.transposed ? ops.dgrad : ops.forward)(
          {.dtype = DType::kBF16,
           .y_dtype = shape_.y_dtype,
           .accumulate = shape_.accumulate,
           .rows = end - begin,
           .depth = shape_.depth,
           .columns = shape_.columns,
           .x = static_cast<const char*>(x) + begin * x_row,
           .y = static_cast<char*>(y) + begin * y_row,
           .weight = weight,
           .groups = {}},
          columns);
    }

    DenseShape shape_;
    std::exception_ptr& failure_;
  };

  std::exception_ptr failure_;
};

// Tails of every tile and of its depth; more depth than all stages hold.
constexpr int64_t kProbeColumns = 200, kProbeDepth = 488, kProbeTokens = 501;

bool products_agree(ExecContext& ctx) {
  WgmmaLibrary library;
  for (bool transposed : {false, true}) {
    const DenseShape shape{transposed, DType::kF32, /*accumulate=*/false, kProbeColumns,
                           kProbeDepth};
    const DenseProof proof = prove(ctx, library, shape);
    library.throw_if_failed();
    if (proof.algorithm == nullptr) return false;
  }
  return true;
}

bool wgrads_agree(ExecContext& ctx) {
  const Tensor dy = ctx.empty({kProbeTokens, kProbeColumns}, DType::kBF16);
  const Tensor x = ctx.empty({kProbeTokens, kProbeDepth}, DType::kBF16);
  const Tensor before = ctx.empty({kProbeColumns, kProbeDepth}, DType::kF32);
  randomize_rows(dy, kProbeTokens, {12, 12}, 0, 0);
  randomize_rows(x, kProbeTokens, {-12, 4}, 0, 1);
  randomize_rows(before, kProbeColumns, {0, 16}, 0, 2);
  const auto result = [&](const auto& wgrad) {
    Tensor dweight = before.clone();
    wgrad(LinearCudaWgrad{.dtype = DType::kBF16,
                          .tokens = kProbeTokens,
                          .rows = kProbeColumns,
                          .columns = kProbeDepth,
                          .dy = dy.raw(Device::kCuda),
                          .x = x.raw(Device::kCuda),
                          .dweight = dweight.data<float>(Device::kCuda),
                          .dweights = nullptr,
                          .groups = {}});
    return dweight.to(Device::kCpu);
  };
  const Tensor expected = result(cuda_ops<LinearCuda>().wgrad);
  return std::ranges::all_of(std::array{kNarrow, kWide}, [&](int columns) {
    const Tensor got = result(
        [&](const LinearCudaWgrad& args) { cuda_ops<LinearWgmmaCuda>().wgrad(args, columns); });
    return std::memcmp(got.raw(), expected.raw(), static_cast<size_t>(got.bytes())) == 0;
  });
}

}  // namespace

WgmmaProducts::WgmmaProducts()
    : proof_([](ExecContext& ctx) { return products_agree(ctx) && wgrads_agree(ctx); }) {}

bool WgmmaProducts::run(ExecContext& ctx, const LinearCudaProduct& args, bool transposed) {
  if (!is_offered(args) || !proof_.holds(ctx)) return false;
  const LinearWgmmaCuda& ops = cuda_ops<LinearWgmmaCuda>();
  (transposed ? ops.dgrad : ops.forward)(args, tile_columns(args.rows, args.columns, 1));
  return true;
}

bool WgmmaProducts::run(ExecContext& ctx, const LinearCudaWgrad& args) {
  if (!is_offered(args) || !proof_.holds(ctx)) return false;
  const int64_t groups = std::max<int64_t>(1, args.groups.count);
  cuda_ops<LinearWgmmaCuda>().wgrad(args, tile_columns(args.rows, args.columns, groups));
  return true;
}

std::string WgmmaProducts::verdict() const {
  const std::optional<bool> result = proof_.result();
  if (!result.has_value()) return "wgmma not asked";
  return *result ? "wgmma has the bits of mma.sync" : "mma.sync, wgmma has other bits";
}

WgmmaProducts& wgmma_products() {
  static auto* products = new WgmmaProducts;  // never destroyed, as dense_products()
  return *products;
}

int64_t wgmma_proof_bytes() { return dense_proof_bytes(kProbeColumns, kProbeDepth); }

}  // namespace moerl::kernels
