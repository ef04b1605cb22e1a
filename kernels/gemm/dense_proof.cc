#include "kernels/gemm/dense_proof.h"

#include <array>
#include <cstring>

#include "kernels/gemm/linear_impl.h"
#include "kernels/gemm/product_probe.h"

namespace moerl::kernels {
namespace {

struct Probe {
  int64_t rows;
  Magnitude x;
  /// The second half of a row is the first half's negative. With the weight's halves alike, sums
  /// are what rounding leaves of zero: any other order of summation shows, in bf16 too.
  bool cancels;
};

/// Rows: whole tiles, tails of one and of some rows, more tiles than a GPU has multiprocessors.
/// Magnitudes: sums that are rounded at every step, sums most of whose terms are lost beside the
/// largest, and sums that are denormal.
constexpr std::array<Probe, 4> kProbes = {
    {{256, {12, 3}, false}, {257, {12, 4}, true}, {391, {-122, 4}, false}, {1031, {12, 12}, true}}};
constexpr int64_t kMostRows = 1031, kAllRows = 256 + 257 + 391 + 1031;
constexpr Magnitude kWeight = {-12, 4};
/// Of y before: beside any sum.
constexpr Magnitude kBefore = {-53, 73};

/// The probes of one shape, and what the kernels make of them.
class ProbedShape {
 public:
  ProbedShape(ExecContext& ctx, const DenseShape& shape)
      : weight_(ctx.empty(shape.transposed ? Shape{shape.depth, shape.columns}
                                           : Shape{shape.columns, shape.depth},
                          DType::kBF16)),
        before_(ctx.empty({kMostRows, shape.columns}, shape.y_dtype)),
        y_(ctx.empty(before_.shape(), shape.y_dtype)) {
    if (shape.transposed) {
      randomize_rows(weight_, shape.depth / 2, kWeight, 0, 0);
      repeat_rows(weight_, shape.depth / 2, shape.depth);
    } else {
      randomize_rows(weight_, shape.columns, kWeight, 1, 0);
    }
    randomize_rows(before_, kMostRows, kBefore, 0, 1);
    const LinearCuda& ops = cuda_ops<LinearCuda>();
    for (size_t i = 0; i < kProbes.size(); ++i) {
      const Probe& probe = kProbes[i];
      x_[i] = ctx.empty({probe.rows, shape.depth}, DType::kBF16);
      randomize_rows(x_[i], probe.rows, probe.x, probe.cancels ? -1 : 0, 2 + i);
      expected_[i] = result(i, [&](const void* x, const void* weight, void* y) {
        (shape.transposed ? ops.dgrad : ops.forward)({.dtype = DType::kBF16,
                                                      .y_dtype = shape.y_dtype,
                                                      .accumulate = shape.accumulate,
                                                      .rows = probe.rows,
                                                      .depth = shape.depth,
                                                      .columns = shape.columns,
                                                      .x = x,
                                                      .y = y,
                                                      .weight = weight,
                                                      .groups = {}});
      });
    }
  }

  /// Whether the algorithm has the kernels' bits in a probe.
  bool is_matched(size_t probe, const DenseAlgorithm& algorithm) {
    try {
      const Tensor got = result(probe, [&](const void* x, const void* weight, void* y) {
        algorithm.run(kProbes[probe].rows, x, weight, y);
      });
      return std::memcmp(got.raw(), expected_[probe].raw(), static_cast<size_t>(got.bytes())) == 0;
    } catch (const std::runtime_error&) {
      return false;
    }
  }

 private:
  template <typename Multiply>
  Tensor result(size_t probe, const Multiply& multiply) {
    Tensor y = y_.rows(0, kProbes[probe].rows);
    y.copy_from(before_.rows(0, kProbes[probe].rows));
    multiply(x_[probe].raw(Device::kCuda), weight_.raw(Device::kCuda), y.raw(Device::kCuda));
    return y.to(Device::kCpu);
  }

  Tensor weight_, before_, y_;
  std::array<Tensor, kProbes.size()> x_, expected_;
};

}  // namespace

DenseProof prove(ExecContext& ctx, DenseLibrary& library, const DenseShape& shape) {
  std::vector<std::unique_ptr<DenseAlgorithm>> algorithms = library.algorithms(shape);
  if (algorithms.empty()) return {nullptr, "the library has no algorithm"};
  ProbedShape probed(ctx, shape);
  std::array<int, kProbes.size()> refused{};
  const auto text = [&](const std::string& chosen) {
    std::string counts;
    for (int count : refused) counts += concat(' ', count);
    return concat(chosen, " of ", algorithms.size(), ", refused by the probes:", counts);
  };
  for (size_t i = 0; i < algorithms.size(); ++i) {
    size_t probe = 0;
    while (probe < kProbes.size() && probed.is_matched(probe, *algorithms[i])) ++probe;
    if (probe == kProbes.size())
      return {std::move(algorithms[i]), text(concat("algorithm ", i + 1))};
    ++refused[probe];
  }
  return {nullptr, text("none")};
}

int64_t dense_proof_bytes(int64_t columns, int64_t depth) {
  const int64_t operands = (kAllRows + columns) * depth * dtype_size(DType::kBF16);
  return operands + 2 * kMostRows * columns * dtype_size(DType::kF32);
}

}  // namespace moerl::kernels
