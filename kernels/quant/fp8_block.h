#pragma once
#include <cstdint>
#include <span>

#include "kernels/exec_context.h"
#include "kernels/quant/e4m3.h"

namespace moerl::kernels {

/// [ceil(R / 128), ceil(C / 128)] for a weight of [R, C]: the blocks at the edges may be ragged.
Shape fp8_scale_shape(const Shape& weight);

/// Weight of an FP8 checkpoint: weight[r, c] = e4m3(codes[r, c]) * scales[r / 128, c / 128], one
/// fp32 product, rounded once (and once more to bf16); a product below 2^-126 becomes zero.
/// Runs on the calling thread, which flushes denormals to zero (one of a ThreadPool).
/// @param shape   [R, C].  @param codes [R * C] E4M3 bytes.
/// @param scales  [fp8_scale_shape] little-endian fp32 at any address, of weight_scale_inv.
/// @param begin   the first, and `end` the one behind the last element to be written, in row order.
/// @param dtype   of `out`: kF32 or kBF16.  @param out [end - begin], overwritten.
/// @throws std::invalid_argument if a size disagrees.
void dequantize_fp8(Isa isa, const Shape& shape, std::span<const std::byte> codes,
                    std::span<const std::byte> scales, int64_t begin, int64_t end, DType dtype,
                    void* out);

/// The inverse. A block that is already codes times a scale (it was read from an FP8 checkpoint)
/// keeps them exactly. Any other gets
///
///   scale = max |weight| / 448 (of the block),  code = e4m3(weight / scale), nearest, ties to even
///
/// (report, 3.3.2), so that quantising what was dequantised changes nothing. A block of zeros
/// has the scale 1.
/// @param weight  [R, C] fp32, finite.
/// @param codes   out [R * C].  @param scales out [fp8_scale_shape]; both overwritten.
/// @throws std::invalid_argument if a size disagrees or a weight is not finite.
void quantize_fp8(ExecContext& ctx, const Tensor& weight, std::span<std::byte> codes,
                  std::span<float> scales);

}  // namespace moerl::kernels
