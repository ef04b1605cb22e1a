#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/isa.h"

namespace moerl::kernels {

/// Number formats that checkpoints are stored in.
enum class StoredFloat : uint8_t { kF32, kBF16, kF16, kE4M3 };

constexpr int64_t stored_size(StoredFloat format) {
  return format == StoredFloat::kF32 ? 4 : format == StoredFloat::kE4M3 ? 1 : 2;
}

/// out[i] = the i-th stored number times `scale`, exact but for the rounding of the product to fp32
/// and of fp32 to bf16 (nearest, ties to even). E4M3 is OCP's e4m3fn: 1-4-3 bits, bias 7, largest
/// 448, NaN where all seven lower bits are set, no infinity. `scale` applies to E4M3 only. Runs on
/// the calling thread.
/// @param data  count little-endian numbers at any address.
/// @param dtype of `out`: kF32 or kBF16.
/// @param out   [count], overwritten; NaNs stay NaN, denormals of F32 and BF16 stay what they are.
void decode_floats(Isa isa, StoredFloat format, const std::byte* data, int64_t count, float scale,
                   DType dtype, void* out);

}  // namespace moerl::kernels
