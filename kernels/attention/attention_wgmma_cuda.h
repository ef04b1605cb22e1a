#pragma once
// The forward pass by Hopper's wgmma, for many rows: bf16, Dk 128 or 192, Dv 128, values stored
// beside the keys. The order is that of attention_mma_cuda.h, step by step, so the bits are its
// bits where wgmma rounds as mma.sync does; a block reads the keys and values of a head once for
// 128 rows instead of 16. Included by attention_wgmma_cuda.cu only.

#include "kernels/attention/attention_split_cuda.h"
#include "kernels/cuda/wgmma.h"

namespace moerl::kernels::cuda {

/// 128 rows of one key head of one segment: 64 for each of two warpgroups, whose threads have the
/// sums of wgmma: thread t rows t % 128 / 32 * 16 + t % 32 / 4 and 8 behind it, and of eight
/// columns 2 (t % 4) and the next. Keys come in pairs of blocks. kBoxes: Dk / 64, which ptxas has
/// to know to keep the products of a score in flight.
template <int kBoxes>
struct WgmmaAttention {
  static constexpr int kGroups = 2, kThreads = kGroups * kWarpgroupThreads;
  static constexpr int kRows = kGroups * kWgmmaBox, kKeys = 2 * kKvBlock, kStages = 2;
  static constexpr int kKeyDim = kBoxes * kWgmmaBox, kColumns = kAttentionWgmmaColumns;
  static constexpr int kStageElements = kKeys * (kKeyDim + kColumns);
  static constexpr int kBoxElements = kWgmmaBox * kWgmmaBox;
  static_assert(kKeys == kWgmmaBox && kRows == kAttentionWgmmaRows);

  static size_t shared_bytes(const AttentionForwardCuda& args) {
    constexpr int kElements = kRows * kKeyDim + kStages * kStageElements;
    return kElements * sizeof(bf16) +
           (args.num_splits() > 1 ? kRows * kColumns * sizeof(float) : 0);
  }

  bf16* q;        // of each warpgroup boxes of 64 rows and 64 of Dk
  bf16* stages;   // each: keys, Dk rows of 64; values, boxes of 64 keys and 64 columns
  float* merged;  // number i of a thread at i * kThreads + thread

  __device__ explicit WgmmaAttention(unsigned char* shared)
      : q(reinterpret_cast<bf16*>(shared)),
        stages(q + kRows * kKeyDim),
        merged(reinterpret_cast<float*>(stages + kStages * kStageElements)) {}

  __device__ bf16* keys(int stage) const { return stages + stage * kStageElements; }
  __device__ bf16* values(int stage) const { return keys(stage) + kKeys * kKeyDim; }
  __device__ bf16* queries(int group) const { return q + group * kWgmmaBox * kKeyDim; }

  /// scores [64, 64] of a warpgroup's rows and a stage's keys.
  __device__ void score(int group, int stage, float (&scores)[kKeys / 2]) const {
    MOERL_UNROLL
    for (int i = 0; i < kKeys / 2; ++i) scores[i] = 0.0f;
    wgmma_fence();
    MOERL_UNROLL
    for (int box = 0; box < kBoxes; ++box) MOERL_UNROLL
    for (int step = 0; step < kWgmmaBox / kWgmmaStep; ++step) {
      const bf16* left = queries(group) + box * kBoxElements;
      const bf16* right = keys(stage) + box * kBoxElements;
      wgmma_bf16<kKeys, false, true>(scores, wgmma_operand<false>(advance_depth<false>(left, step)),
                                     wgmma_operand<true>(advance_depth<true>(right, step)));
    }
    wgmma_commit();
    wgmma_finish(scores);
  }

  /// What a thread keeps of one of its rows: of the partial sums i and i + 8 of a row, those of
  /// i = 2 (t % 4) and of the next i.
  struct RowState {
    float max = -INFINITY, low[2] = {}, high[2] = {};

    /// Of all keys so far.
    __device__ SplitSum sum() const {
      float l[2];
      MOERL_UNROLL
      for (int c = 0; c < 2; ++c) {
        l[c] = low[c] + high[c];
        l[c] = l[c] + __shfl_xor_sync(~0u, l[c], 2);
        l[c] = l[c] + __shfl_xor_sync(~0u, l[c], 1);
      }
      return {max, l[0] + l[1]};
    }
  };

  /// Probabilities, as pairs of bf16, of one row and one block of keys, of which it sees `valid`.
  /// @param scores  of the block, of both rows of the thread.
  /// @param half  which row: 0 or 1.
  /// @return what the sums so far are multiplied with.
  __device__ static float softmax(const float* scores, int half, float scale, int64_t valid,
                                  RowState& row, uint32_t (&p)[4]) {
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
    float x[4][2], largest = -INFINITY;
    MOERL_UNROLL
    for (int j = 0; j < 4; ++j) MOERL_UNROLL
    for (int c = 0; c < 2; ++c) {
      x[j][c] = 8 * j + column + c < valid ? scores[4 * j + 2 * half + c] * scale : -INFINITY;
      largest = max(largest, x[j][c]);
    }
    largest = max(largest, __shfl_xor_sync(~0u, largest, 2));
    largest = max(largest, __shfl_xor_sync(~0u, largest, 1));
    const bool sees = valid > 0;
    const float next = largest > row.max ? largest : row.max;
    const float f = sees ? exp(row.max - next) : 1.0f;
    MOERL_UNROLL
    for (int j = 0; j < 4; ++j) MOERL_UNROLL
    for (int c = 0; c < 2; ++c) x[j][c] = sees ? exp(x[j][c] - next) : 0.0f;
    row.max = next;
    MOERL_UNROLL
    for (int c = 0; c < 2; ++c) {
      row.low[c] = row.low[c] * f + x[0][c] + x[2][c];
      row.high[c] = row.high[c] * f + x[1][c] + x[3][c];
    }
    MOERL_UNROLL
    for (int j = 0; j < 4; ++j)
      p[j] = uint32_t{to_bf16(x[j][0]).bits} | uint32_t{to_bf16(x[j][1]).bits} << 16;
    return f;
  }
};

template <int kBoxes>
__global__ void __launch_bounds__(WgmmaAttention<kBoxes>::kThreads, 1)
    wgmma_attention_kernel(AttentionForwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  using Tile = WgmmaAttention<kBoxes>;
  constexpr int kSums = Tile::kColumns / 2, kChunks = kWgmmaBox / kWgmmaChunk;
  const AttentionDims& d = args.dims;
  const AttentionSegmentCuda segment = args.segments[blockIdx.z];
  const int thread = static_cast<int>(threadIdx.x);
  // 64-bit divisions are slow; a segment's rows of one key head are fewer than 2^31.
  const int heads = static_cast<int>(d.num_heads) / static_cast<int>(d.num_kv_heads);
  const int64_t kv_head = blockIdx.y;
  // The last tile sees most keys, and begins first.
  const int64_t begin = int64_t{gridDim.x - 1 - blockIdx.x} * Tile::kRows;
  const int64_t left = segment.num_rows * heads - begin;
  if (left <= 0) return;
  const int count = static_cast<int>(left < Tile::kRows ? left : Tile::kRows);
  auto position = [&](int r) { return segment.start + static_cast<int>(begin + r) / heads; };
  auto batch_row = [&](int r) {
    const int n = static_cast<int>(begin + r);
    return (segment.first_row + n / heads) * d.num_heads + kv_head * heads + n % heads;
  };
  const int64_t end = position(count - 1) + 1;
  const Tile memory(shared);

  // Sixteen bytes of Q, of keys and of values a turn; zeros where there are none.
  constexpr int kQueryChunks = Tile::kKeyDim / kWgmmaChunk;
  for (int i = thread; i < Tile::kRows * kQueryChunks; i += Tile::kThreads) {
    const int r = i / kQueryChunks, chunk = i % kQueryChunks;
    const bf16* from = static_cast<const bf16*>(args.q);
    if (r < count) from += batch_row(r) * Tile::kKeyDim + chunk * kWgmmaChunk;
    bf16* box = memory.queries(r / kWgmmaBox) + chunk / kChunks * Tile::kBoxElements;
    cp_async_16(box + swizzled_chunk(r % kWgmmaBox, chunk % kChunks), from, r < count ? 16 : 0);
  }
  auto slab = [&](const void* cache, int64_t at, int64_t width) {
    const int64_t slot = segment.block_table[at / kKvBlock] * d.num_kv_heads + kv_head;
    return static_cast<const bf16*>(cache) + slot * kKvBlock * width;
  };
  auto request = [&](int64_t at) {
    const int stage = static_cast<int>(at / Tile::kKeys) % Tile::kStages;
    const bool has_second = at + kKvBlock < end;
    if (at < end) {
      const bf16* first = slab(args.keys, at, Tile::kKeyDim);
      // Scores of a block that is not there are not looked at.
      const bf16* second = has_second ? slab(args.keys, at + kKvBlock, Tile::kKeyDim) : first;
      for (int i = thread; i < Tile::kKeyDim * kChunks; i += Tile::kThreads) {
        const int row = i / kChunks, chunk = i % kChunks, in_block = chunk % (kChunks / 2);
        const bool is_first = chunk < kChunks / 2;
        cp_async_16(memory.keys(stage) + swizzled_chunk(row, chunk),
                    (is_first ? first : second) + row * kKvBlock + in_block * kWgmmaChunk, 16);
      }
      const bf16* first_values = slab(args.values, at, Tile::kColumns);
      const bf16* second_values =
          has_second ? slab(args.values, at + kKvBlock, Tile::kColumns) : first_values;
      constexpr int kRowChunks = Tile::kColumns / kWgmmaChunk;
      for (int i = thread; i < Tile::kKeys * kRowChunks; i += Tile::kThreads) {
        const int key = i / kRowChunks, chunk = i % kRowChunks;
        const bf16* from = (key < kKvBlock ? first_values : second_values) +
                           key % kKvBlock * Tile::kColumns + chunk * kWgmmaChunk;
        cp_async_16(memory.values(stage) + chunk / kChunks * Tile::kBoxElements +
                        swizzled_chunk(key, chunk % kChunks),
                    from, at + key < end ? 16 : 0);
      }
    }
    cp_async_commit();
  };
  request(0);
  request(Tile::kKeys);

  // The same for a whole warp, which the compiler cannot know.
  const int group = __shfl_sync(~0u, thread / kWarpgroupThreads, 0);
  const int first_row = group * kWgmmaBox + thread % kWarpgroupThreads / 32 * 16 + thread % 32 / 4;
  auto row_of = [&](int half) { return first_row + 8 * half; };
  const int64_t positions[2] = {row_of(0) < count ? position(row_of(0)) : -1,
                                row_of(1) < count ? position(row_of(1)) : -1};
  typename Tile::RowState rows[2];
  SplitSum sums[2];  // of the splits before the present one, if any
  float acc[kSums];
  MOERL_UNROLL
  for (int i = 0; i < kSums; ++i) acc[i] = 0.0f;
  int64_t split_begin = 0;
  // Merges a split into those before it: a row that does not see it has m = -inf and l = 0 of it.
  auto end_split = [&] {
    SplitSum::Factors f[2];
    MOERL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const SplitSum split = rows[half].sum();
      rows[half] = {};
      f[half] = {0.0f, 1.0f};
      if (split_begin == 0)
        sums[half] = split;
      else
        f[half] = sums[half].merge(split);
    }
    MOERL_UNROLL
    for (int i = 0; i < kSums; ++i) {
      float* to = memory.merged + i * Tile::kThreads + thread;
      const SplitSum::Factors& factors = f[i / 2 % 2];
      *to = split_begin == 0 ? acc[i] : fma(acc[i], factors.now, *to * factors.before);
      acc[i] = 0.0f;
    }
  };

  for (int64_t at = 0; at < end; at += Tile::kKeys) {
    if (at == split_begin + kKvSplit) {
      end_split();
      split_begin = at;
    }
    const int stage = static_cast<int>(at / Tile::kKeys) % Tile::kStages;
    cp_async_wait<Tile::kStages - 1>();
    fence_for_wgmma();
    __syncthreads();  // keys and values are there
    float scores[Tile::kKeys / 2];
    memory.score(group, stage, scores);
    MOERL_UNROLL
    for (int block = 0; block < 2; ++block) {
      const int64_t first_key = at + block * kKvBlock;
      if (first_key >= end) continue;
      float f[2];
      uint32_t p[2][4];  // of the two rows
      MOERL_UNROLL
      for (int half = 0; half < 2; ++half)
        f[half] = Tile::softmax(scores + block * kKvBlock / 2, half, args.scale,
                                positions[half] - first_key + 1, rows[half], p[half]);
      MOERL_UNROLL
      for (int i = 0; i < kSums; ++i) acc[i] = acc[i] * f[i / 2 % 2];
      wgmma_fence();
      MOERL_UNROLL
      for (int step = 0; step < kKvBlock / kWgmmaStep; ++step) {
        const uint32_t a[4] = {p[0][2 * step], p[1][2 * step], p[0][2 * step + 1],
                               p[1][2 * step + 1]};
        const int steps = block * kKvBlock / kWgmmaStep + step;
        wgmma_bf16<Tile::kColumns, true>(
            acc, a, wgmma_operand<true>(advance_depth<true>(memory.values(stage), steps)));
      }
      wgmma_commit();
      wgmma_finish(acc);
    }
    __syncthreads();  // all are done with the stage
    request(at + Tile::kStages * Tile::kKeys);
  }
  cp_async_wait<0>();

  const bool walked_several = split_begin > 0;
  if (walked_several) end_split();
  MOERL_UNROLL
  for (int half = 0; half < 2; ++half) {
    const SplitSum sum = walked_several ? sums[half] : rows[half].sum();
    if (row_of(half) >= count) continue;
    const int64_t to = batch_row(row_of(half));
    if (thread % 4 == 0 && args.lse != nullptr) args.lse[to] = sum.max + log(sum.total);
    bf16* o = static_cast<bf16*>(args.o) + to * Tile::kColumns + thread % 4 * 2;
    MOERL_UNROLL
    for (int j = 0; j < kSums / 4; ++j) {
      const int i = 4 * j + 2 * half;
      const float* merged = memory.merged + i * Tile::kThreads + thread;
      Pair<bf16> pair;
      store(&pair.first, (walked_several ? merged[0] : acc[i]) / sum.total);
      store(&pair.second, (walked_several ? merged[Tile::kThreads] : acc[i + 1]) / sum.total);
      *reinterpret_cast<Pair<bf16>*>(o + 8 * j) = pair;
    }
  }
}

}  // namespace moerl::kernels::cuda
