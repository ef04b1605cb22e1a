#pragma once
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "kernels/list.h"
#include "kernels/norm/elementwise.h"
#include "kernels/precision.h"

namespace moerl::kernels {

/// The products that a weight takes part in by an image of it.
enum class Product : uint8_t { kForward, kDgrad };

/// The working image of one weight matrix W [out_features N, in_features K], rounded to the working
/// type and laid out for the GEMM kernels; made from the fp32 master after every optimizer step.
/// One layout for all instruction levels of the CPU. On kCuda it is W itself, [N, K], for both
/// uses. In FP8 images are codes and scales (fp8_linear.h), on both devices.
struct PackedWeight {
  DType dtype = DType::kF32;  ///< working type: kF32 or kBF16
  bool is_fp8 = false;
  int64_t out_features = 0, in_features = 0;
  Tensor forward;                       ///< for y = x W^T; packed again it stays where it is
  Tensor dgrad;                         ///< for dx = dy W; undefined in an inference-only image
  Tensor forward_scales, dgrad_scales;  ///< in FP8 alone

  const Tensor& image(Product product) const {
    return product == Product::kForward ? forward : dgrad;
  }
  const Tensor& scales(Product product) const {
    return product == Product::kForward ? forward_scales : dgrad_scales;
  }
};

/// Fills `packed` (allocated on first use, reused afterwards) from the fp32 master [N, K].
/// bf16 values are rounded to nearest even.
void pack_weight(ExecContext& ctx, const Tensor& master, Precision precision, bool with_dgrad,
                 PackedWeight& packed);
/// The same without the dgrad image, from a master that need not be in memory as a whole (but in
/// FP8 is, for as long as this takes).
/// @param shape  [N, K].  @param read  called once for every row.
void pack_weight(ExecContext& ctx, const Shape& shape, const ReadRows& read, Precision precision,
                 PackedWeight& packed);

/// y[t, n] = sum_k x[t, k] W[n, k].
///
/// The numeric specification, the same at every instruction level. fp32: one chain of fused
/// multiply-adds per output, k ascending, from +0. bf16 (the order of AMX TDPBF16PS): k in blocks
/// of 32 (zero padded); in each block a chain over even k and a chain over odd k, each from +0;
/// their sum is added to the output, blocks ascending. Denormals are flushed. The fp32 result is
/// rounded once when y is bf16. A row's bits depend on that row and W only. FP8: fp8_linear.h.
///
/// @param x  [T, K] of the working type.  @param y  [T, N], fp32 or the working type; T may be 0.
/// @param write  kAccumulate adds the finished sum to y (fp32 y only).
/// @throws std::invalid_argument if a shape or type disagrees.
void linear_forward(ExecContext& ctx, const Tensor& x, const PackedWeight& weight, Tensor& y,
                    Write write = Write::kOverwrite);

/// dx[t, k] = sum_n dy[t, n] W[n, k]; same specification with n as the inner index.
/// @param dy [T, N] of the working type.  @param dx [T, K], fp32 or the working type; kAccumulate
/// is allowed for both (the sum is added in fp32 and rounded once).
void linear_dgrad(ExecContext& ctx, const Tensor& dy, const PackedWeight& weight, Tensor& dx,
                  Write write = Write::kOverwrite);

/// dweight[n, k] += sum_t dy[t, n] x[t, k], tokens ascending in the order of the specification of
/// linear_forward with t as the inner index. What dweight holds is where the sum starts (in place
/// of +0), so that two calls equal one call on the tokens of both, bit for bit; in bf16 if the
/// first has a multiple of 32 tokens. Repeatable for a given batch at any thread count.
/// @param dy [T, N], x [T, K] of one working type.  @param dweight [N, K] fp32, accumulated.
void linear_wgrad(ExecContext& ctx, const Tensor& dy, const Tensor& x, Tensor& dweight);

/// The row groups of a grouped product: group g owns rows [offsets[g], offsets[g + 1]).
class GroupOffsets {
 public:
  GroupOffsets(List<int64_t> offsets) : offsets_(std::move(offsets)) {}     // NOLINT: a view
  GroupOffsets(std::span<const int64_t> offsets) : offsets_(offsets) {}     // NOLINT: a view
  GroupOffsets(const std::vector<int64_t>& offsets) : offsets_(offsets) {}  // NOLINT: a view
  GroupOffsets(const Tensor& offsets) : offsets_(offsets) {}                // NOLINT: a view
  /// Groups of as many rows each, which need no list.
  static GroupOffsets even(size_t groups, int64_t rows_each);

  size_t groups() const { return even_.empty() ? offsets_.size() - 1 : even_.size() - 1; }
  bool on_host() const { return !even_.empty() || offsets_.on_host(); }
  /// REQUIRES: on_host().
  std::span<const int64_t> host() const {
    return even_.empty() ? offsets_.host() : std::span<const int64_t>(even_);
  }
  bool is_even() const { return !even_.empty(); }
  /// In the memory of ctx's device. REQUIRES: not is_even().
  const int64_t* data(ExecContext& ctx) const { return offsets_.data(ctx); }

 private:
  List<int64_t> offsets_;
  std::vector<int64_t> even_;
};

/// The weights of a grouped product, one of each group: images that others own and may pack again.
/// On kCuda tables of their addresses lie on the device: an image that has been packed stays where
/// it is.
class WeightList {
 public:
  WeightList() = default;
  WeightList(std::vector<const PackedWeight*> weights)  // NOLINT: as a list of the caller's
      : weights_(std::move(weights)) {}

  std::span<const PackedWeight* const> host() const { return weights_; }
  /// Makes the tables, unless there are these. REQUIRES: all are packed alike.
  void upload(ExecContext& ctx) const;
  /// The addresses of the images in the memory of kCuda; behind them in FP8 those of the scales.
  const void* const* data(ExecContext& ctx, Product product) const;

 private:
  struct Table {
    std::vector<const void*> addresses;
    Tensor on_device;
  };
  void upload(ExecContext& ctx, Product product) const;

  std::vector<const PackedWeight*> weights_;
  mutable std::array<Table, 2> tables_;
};

/// linear_forward for each group with a weight of its own (experts, heads): rows of x that belong
/// to group g meet weights[g]. All weights have one shape. Groups may be empty.
/// @param x [R, K].  @param offsets  G + 1 ascending values from 0 to R.  @param weights  G of
/// them.
/// @param y [R, N].
void grouped_linear_forward(ExecContext& ctx, const Tensor& x, const GroupOffsets& offsets,
                            const WeightList& weights, Tensor& y);

/// Gradient with respect to x of grouped_linear_forward. @param dx [R, K].
void grouped_linear_dgrad(ExecContext& ctx, const Tensor& dy, const GroupOffsets& offsets,
                          const WeightList& weights, Tensor& dx, Write write = Write::kOverwrite);

/// Gradient with respect to the weights: dweights[g] [N, K] fp32 += dy_g^T x_g.
void grouped_linear_wgrad(ExecContext& ctx, const Tensor& dy, const Tensor& x,
                          const GroupOffsets& offsets, std::span<Tensor* const> dweights);

}  // namespace moerl::kernels
