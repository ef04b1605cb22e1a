#include "kernels/quant/fp8_block.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/check_tensor.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/quant/decode.h"

namespace moerl::kernels {
namespace {

constexpr float kSmallestNormal = 0x1p-126f;
constexpr std::array<float, 256> kE4m3Values = e4m3_values();

/// One block of a weight, of `rows` x `columns` at most 128 x 128.
class BlockQuantizer {
 public:
  BlockQuantizer(const float* weight, int64_t stride, int64_t rows, int64_t columns)
      : values_(static_cast<size_t>(rows * columns)), codes_(values_.size()) {
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(weight + r * stride, columns, values_.data() + r * columns);
  }

  bool finite() const {
    return std::all_of(values_.begin(), values_.end(), [](float v) { return std::isfinite(v); });
  }

  /// Returns the scale and fills codes() with the block's.
  float quantize() {
    const float largest = largest_magnitude();
    if (largest < kSmallestNormal) {  // zeros, or denormals, which count as zeros
      std::fill(codes_.begin(), codes_.end(), uint8_t{0});
      return 1;
    }
    if (const std::optional<float> scale = exact_scale(largest)) return *scale;
    float scale = std::max(largest / kLargestE4m3, kSmallestNormal);
    if (std::isinf(scale * kLargestE4m3)) scale = std::nextafter(scale, 0.0f);
    for (size_t i = 0; i < values_.size(); ++i) codes_[i] = to_e4m3(values_[i] / scale);
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = kE4m3Values[codes_[i]] * scale;
    // Several scales may give the same products; a reader of the products must find the one that
    // stands in the file.
    return exact_scale(largest_magnitude()).value();
  }
  const uint8_t* codes() const { return codes_.data(); }

 private:
  float largest_magnitude() const {
    float largest = 0;
    for (float value : values_) largest = std::max(largest, std::fabs(value));
    return largest;
  }

  /// The first scale of a fixed list that represents every value without error: a power of two
  /// (the scales of V3.1 and later), or largest / 448 or a neighbour of it, since the product that
  /// made `largest` was rounded. Fills codes() if there is one.
  std::optional<float> exact_scale(float largest) {
    const float near = std::max(largest / kLargestE4m3, kSmallestNormal);
    int exponent = 0;
    const float fraction = std::frexp(near, &exponent);
    const float power = std::ldexp(fraction == 0.5f ? 0.5f : 1.0f, exponent);  // >= near
    for (const float scale :
         {power, near, std::nextafter(near, 2 * near), std::nextafter(near, 0.0f)})
      if (scale >= kSmallestNormal && represents(scale)) return scale;
    return std::nullopt;
  }

  bool represents(float scale) {
    for (size_t i = 0; i < values_.size(); ++i) {
      codes_[i] = to_e4m3(values_[i] / scale);
      if (std::bit_cast<uint32_t>(kE4m3Values[codes_[i]] * scale) !=
          std::bit_cast<uint32_t>(values_[i]))
        return false;
    }
    return true;
  }

  std::vector<float> values_;
  std::vector<uint8_t> codes_;
};

int64_t num_blocks(int64_t size) { return (size + kFp8Block - 1) / kFp8Block; }

}  // namespace

Shape fp8_scale_shape(const Shape& weight) {
  check(weight.rank() == 2, "fp8_scale_shape: weight is ", weight, ", expected rank 2");
  return {num_blocks(weight[0]), num_blocks(weight[1])};
}

void dequantize_fp8(Isa isa, const Shape& shape, std::span<const std::byte> codes,
                    std::span<const std::byte> scales, int64_t begin, int64_t end, DType dtype,
                    void* out) {
  check_size("dequantize_fp8", "codes", codes.size(), shape.numel());
  check_size("dequantize_fp8", "scales", scales.size(), 4 * fp8_scale_shape(shape).numel());
  check(0 <= begin && begin <= end && end <= shape.numel(), "dequantize_fp8: elements ", begin,
        " to ", end, " of ", shape);
  if (begin == end) return;
  const int64_t columns = shape[1], column_blocks = num_blocks(columns);
  const int64_t first_row = begin / columns, last_row = (end - 1) / columns;
  for (int64_t r = first_row; r <= last_row; ++r)
    for (int64_t b = 0; b < column_blocks; ++b) {
      const int64_t from = std::max(begin, r * columns + b * kFp8Block);
      const int64_t to = std::min({end, (r + 1) * columns, r * columns + (b + 1) * kFp8Block});
      if (from >= to) continue;
      float scale;
      std::memcpy(&scale, scales.data() + 4 * (r / kFp8Block * column_blocks + b), sizeof scale);
      decode_floats(isa, StoredFloat::kE4M3, codes.data() + from, to - from, scale, dtype,
                    static_cast<std::byte*>(out) + (from - begin) * dtype_size(dtype));
    }
}

void quantize_fp8(ExecContext& ctx, const Tensor& weight, std::span<std::byte> codes,
                  std::span<float> scales) {
  check_rank("quantize_fp8", "weight", weight, 2);
  check_dtype("quantize_fp8", "weight", weight, DType::kF32);
  check_size("quantize_fp8", "codes", codes.size(), weight.numel());
  check_size("quantize_fp8", "scales", scales.size(), fp8_scale_shape(weight.shape()).numel());
  const int64_t rows = weight.dim(0), columns = weight.dim(1);
  const int64_t column_blocks = num_blocks(columns);
  const float* in = weight.data<float>();
  ctx.pool().parallel_for(num_blocks(rows) * column_blocks, [&](int64_t block) {
    const int64_t r = block / column_blocks * kFp8Block, c = block % column_blocks * kFp8Block;
    const int64_t height = std::min(kFp8Block, rows - r), width = std::min(kFp8Block, columns - c);
    BlockQuantizer quantizer(in + r * columns + c, columns, height, width);
    check(quantizer.finite(), "quantize_fp8: weight holds NaN or infinity in rows ", r, " to ",
          r + height - 1, ", columns ", c, " to ", c + width - 1, "; expected finite values");
    scales[static_cast<size_t>(block)] = quantizer.quantize();
    for (int64_t i = 0; i < height; ++i)
      std::memcpy(codes.data() + (r + i) * columns + c, quantizer.codes() + i * width,
                  static_cast<size_t>(width));
  });
}

}  // namespace moerl::kernels
