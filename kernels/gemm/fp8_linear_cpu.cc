#include <vector>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"
#include "kernels/gemm/fp8_linear_impl.h"

namespace moerl::kernels {
namespace {

constexpr int64_t kVectors = kFp8Block / kLanes;
constexpr std::array<float, 256> kE4m3Values = e4m3_values();

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// Of a tile of `rows` x `columns` elements of x at (row, column). The last tile of a row also
/// writes the zeros behind it, and the last row of a weight those behind the transposed rows.
template <typename T>
void quantize_tile(const Fp8Quantize& args, int64_t row, int64_t rows, int64_t column) {
  const int64_t columns = smaller(kFp8Block, args.columns - column);
  const int64_t tiles = num_fp8_blocks(args.columns), tile = column / kFp8Block;
  const T* x = static_cast<const T*>(args.x) + row * args.columns + column;
  uint32_t largest = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const uint32_t bits = std::bit_cast<uint32_t>(to_float(x[r * args.columns + c])) & 0x7FFFFFFF;
      largest = bits > largest ? bits : largest;
    }
  const float scale = fp8_scale(largest);
  const int64_t scale_row = args.is_weight ? row / kFp8Block : row;
  args.scales[scale_row * tiles + tile] = scale;

  const int64_t pitch = fp8_pitch(args.columns);
  uint8_t* codes = static_cast<uint8_t*>(args.codes) + row * pitch + column;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c)
      codes[r * pitch + c] = to_e4m3(to_float(x[r * args.columns + c]) / scale);
    for (int64_t c = columns; c < fp8_pitch(columns); ++c) codes[r * pitch + c] = 0;
  }
  if (args.transposed == nullptr) return;
  args.transposed_scales[tile * num_fp8_blocks(args.rows) + scale_row] = scale;
  const int64_t transposed_pitch = fp8_pitch(args.rows);
  uint8_t* transposed = static_cast<uint8_t*>(args.transposed) + column * transposed_pitch + row;
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < fp8_pitch(rows); ++r)
      transposed[c * transposed_pitch + r] = r < rows ? codes[r * pitch + c] : uint8_t{0};
}

template <typename T>
void quantize_rows(const Fp8Quantize& args, int64_t index) {
  const int64_t first = index * kFp8Block, rows = smaller(kFp8Block, args.rows - first);
  const int64_t tile_rows = args.is_weight ? rows : 1;
  for (int64_t row = first; row < first + rows; row += tile_rows)
    for (int64_t column = 0; column < args.columns; column += kFp8Block)
      quantize_tile<T>(args, row, tile_rows, column);
}

template <typename T>
void finish(T* y, F32x16 sum, int64_t n, bool accumulate) {
  store_n(y, accumulate ? load_n(y, n) + sum : sum, n);
}

}  // namespace

template <>
void Fp8LinearCpu<kIsa>::quantize(const Fp8Quantize& args, int64_t index) {
  args.is_bf16 ? quantize_rows<bf16>(args, index) : quantize_rows<float>(args, index);
}

template <>
void Fp8LinearCpu<kIsa>::product(const Fp8Product& args, int64_t index) {
  const int64_t first = index * kFp8Block, columns = smaller(kFp8Block, args.columns - first);
  const int64_t blocks = num_fp8_blocks(args.depth), pitch = fp8_pitch(args.depth);
  std::vector<float> sums(static_cast<size_t>(args.rows * kFp8Block));
  std::vector<float> transposed(kFp8Block * kFp8Block);  // [k, n] of a block; zeros behind columns
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = block * kFp8Block, depth = smaller(kFp8Block, args.depth - begin);
    const uint8_t* weight = static_cast<const uint8_t*>(args.weight) + first * pitch + begin;
    for (int64_t n = 0; n < columns; ++n)
      for (int64_t k = 0; k < depth; ++k)
        transposed[k * kFp8Block + n] = kE4m3Values[weight[n * pitch + k]];
    for (int64_t t = 0; t < args.rows; ++t) {
      const uint8_t* x = static_cast<const uint8_t*>(args.x) + t * pitch + begin;
      const F32x16 scale = set1(args.x_scales[t * blocks + block]) *
                           set1(args.weight_scales[index * blocks + block]);
      float* sum = sums.data() + t * kFp8Block;
      F32x16 part[kVectors];
      for (F32x16& p : part) p = zero();
      for (int64_t k = 0; k < depth; ++k) {
        const F32x16 xk = set1(kE4m3Values[x[k]]);
        for (int64_t v = 0; v < kVectors; ++v)
          part[v] = fma(xk, load(transposed.data() + k * kFp8Block + v * kLanes), part[v]);
      }
      for (int64_t v = 0; v < kVectors; ++v)
        store(sum + v * kLanes, fma(part[v], scale, load(sum + v * kLanes)));
    }
  }
  for (int64_t t = 0; t < args.rows; ++t)
    for_each_lanes(columns, [&](int64_t i, int64_t n) MOERL_INLINE_LAMBDA {
      const F32x16 sum = load_n(sums.data() + t * kFp8Block + i, n);
      const int64_t to = t * args.columns + first + i;
      if (args.y_is_bf16)
        finish(static_cast<bf16*>(args.y) + to, sum, n, args.accumulate);
      else
        finish(static_cast<float*>(args.y) + to, sum, n, args.accumulate);
    });
}

}  // namespace moerl::kernels
