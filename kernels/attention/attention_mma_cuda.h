#pragma once
// The forward pass on tensor cores: bf16, widths that are multiples of 32. Included by
// attention_cuda.cu only.
//
// The order of attention.h, but for two things: a score is summed by mma (d ascending in steps of
// sixteen), and so is P V of a block (keys ascending in steps of sixteen, added to acc f), with P
// rounded to bf16. l is the sum of the unrounded p. A key that a row does not see has p = 0: its
// products are zeros, and what lies behind the tile's last position is never loaded.

#include "kernels/attention/attention_split_cuda.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/tensor_core.h"

namespace moerl::kernels::cuda {

/// Sixteen rows of one key head of one segment. Four warps share out the keys of a block for the
/// scores and the columns of the values for the sums.
struct MmaAttention {
  static constexpr int kRows = kAttentionBlockRows, kThreads = 128, kPad = 8;
  static constexpr int kKeyPitch = kKvBlock + kPad, kScorePitch = kKvBlock + 4;

  static bool fits(const AttentionForwardCuda& args) {
    return args.is_bf16 && args.dims.k_dim % 32 == 0 && args.dims.v_dim % 32 == 0 &&
           args.dims.v_dim <= 512;
  }
  static size_t shared_bytes(const AttentionForwardCuda& args) {
    const AttentionDims& d = args.dims;
    const int64_t values = args.values == nullptr ? 0 : kKvBlock * (d.v_dim + kPad);
    const int64_t merged = args.num_splits() > 1 && args.partials == nullptr ? d.v_dim : 0;
    const int64_t elements =
        kRows * (d.k_dim + kPad) + d.k_dim * kKeyPitch + values + kRows * kKeyPitch;
    return static_cast<size_t>(2 * elements + 4 * kRows * (kScorePitch + 2 + merged));
  }

  bf16 *q, *keys;                  // [kRows, Dk], [Dk, kKvBlock]
  bf16* values;                    // [kKvBlock, Dv], or null: the first Dv rows of the keys
  bf16* p;                         // [kRows, kKvBlock]
  float *scores, *factor, *total;  // [kRows, kKvBlock], [kRows], [kRows]
  float* merged;                   // [kRows, Dv], where a block walks several splits

  __device__ MmaAttention(unsigned char* shared, const AttentionDims& d, bool has_values)
      : q(reinterpret_cast<bf16*>(shared)),
        keys(q + kRows * (d.k_dim + kPad)),
        values(has_values ? keys + d.k_dim * kKeyPitch : nullptr),
        p(has_values ? values + kKvBlock * (d.v_dim + kPad) : keys + d.k_dim * kKeyPitch),
        scores(reinterpret_cast<float*>(p + kRows * kKeyPitch)),
        factor(scores + kRows * kScorePitch),
        total(factor + kRows),
        merged(total + kRows) {}

  /// Asks for `rows` rows of `width` elements; zeros from row `valid` on.
  __device__ static void request(const bf16* from, int64_t rows, int64_t valid, int64_t width,
                                 int64_t pitch, bf16* to) {
    const int chunks = static_cast<int>(width) / 8;
    for (int i = static_cast<int>(threadIdx.x); i < rows * chunks; i += kThreads) {
      const int row = i / chunks, column = i % chunks * 8;
      const bool inside = row < valid;
      cp_async_16(to + row * pitch + column, inside ? from + row * width + column : from,
                  inside ? 16 : 0);
    }
    cp_async_commit();
  }

  /// Zeros in place of the keys from `valid` on, which are also the values: p = 0 times whatever
  /// their slots hold must be 0.
  __device__ void clear_keys_behind(int64_t valid, int64_t v_dim) const {
    for (int64_t i = threadIdx.x; i < v_dim * kKvBlock; i += kThreads)
      if (i % kKvBlock >= valid) keys[i / kKvBlock * kKeyPitch + i % kKvBlock] = bf16{0};
  }

  /// Scores of all rows and the warp's eight keys.
  __device__ void score(const AttentionDims& d) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int64_t q_pitch = d.k_dim + kPad;
    float sum[4] = {};
    for (int64_t k = 0; k < d.k_dim; k += 32) {
      uint32_t b[4];  // 32 depths of the eight keys
      ldmatrix_x4<true>(b, keys + (k + lane) * kKeyPitch + warp * 8);
      MOERL_UNROLL
      for (int half = 0; half < 2; ++half) {
        uint32_t a[4];
        ldmatrix_x4<false>(a, q + lane % 16 * q_pitch + k + half * 16 + lane / 16 * 8);
        const uint32_t b_half[2] = {b[2 * half], b[2 * half + 1]};
        mma_bf16(sum, a, b_half);
      }
    }
    MOERL_UNROLL
    for (int e = 0; e < 4; ++e)
      scores[(lane / 4 + e / 2 * 8) * kScorePitch + warp * 8 + lane % 4 * 2 + e % 2] = sum[e];
  }

  /// What a thread keeps of its row, a row being eight threads: partial sums i and i + 8.
  struct RowState {
    float max = -INFINITY, low = 0.0f, high = 0.0f;

    /// Of all keys so far.
    __device__ SplitSum sum() const {
      float l = low + high;
      for (int half = 4; half >= 1; half /= 2) l = l + __shfl_xor_sync(~0u, l, half);
      return {max, l};
    }
  };

  /// Probabilities of keys i, i + 8, i + 16 and i + 24 of the thread's row, which sees `valid`
  /// keys.
  __device__ void softmax(float scale, int64_t valid, RowState& row) const {
    const int r = static_cast<int>(threadIdx.x) / 8, i = static_cast<int>(threadIdx.x) % 8;
    float x[4], largest = -INFINITY;
    MOERL_UNROLL
    for (int j = 0; j < 4; ++j) {
      x[j] = i + 8 * j < valid ? scores[r * kScorePitch + i + 8 * j] * scale : -INFINITY;
      largest = max(largest, x[j]);
    }
    for (int half = 4; half >= 1; half /= 2)
      largest = max(largest, __shfl_xor_sync(~0u, largest, half));
    const bool sees = valid > 0;
    const float next = largest > row.max ? largest : row.max;
    const float f = sees ? exp(row.max - next) : 1.0f;
    float weight[4];
    MOERL_UNROLL
    for (int j = 0; j < 4; ++j) {
      weight[j] = sees ? exp(x[j] - next) : 0.0f;
      store(p + r * kKeyPitch + i + 8 * j, weight[j]);
    }
    row.max = next;
    row.low = row.low * f + weight[0] + weight[2];
    row.high = row.high * f + weight[1] + weight[3];
    if (i == 0) factor[r] = f;
  }

  /// acc = acc f + P V for the warp's columns, tiles of eight.
  template <int kTiles>
  __device__ void add_values(const AttentionDims& d, int tiles, float (&acc)[kTiles][4]) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    uint32_t a[2][4];
    MOERL_UNROLL
    for (int half = 0; half < 2; ++half)
      ldmatrix_x4<false>(a[half], p + lane % 16 * kKeyPitch + half * 16 + lane / 16 * 8);
    const float f[2] = {factor[lane / 4], factor[lane / 4 + 8]};
    MOERL_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      if (t >= tiles) continue;
      MOERL_UNROLL
      for (int e = 0; e < 4; ++e) acc[t][e] = acc[t][e] * f[e / 2];
      uint32_t b[4];  // the 32 keys of eight columns
      const int column = (warp * tiles + t) * 8;
      if (values != nullptr)
        ldmatrix_x4<true>(b, values + lane * (d.v_dim + kPad) + column);
      else
        ldmatrix_x4<false>(b, keys + (column + lane % 8) * kKeyPitch + lane / 8 * 8);
      MOERL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const uint32_t b_half[2] = {b[2 * half], b[2 * half + 1]};
        mma_bf16(acc[t], a[half], b_half);
      }
    }
  }

  /// Merges a split into those before it, and begins the next; one that a row does not see has
  /// m = -inf and l = 0, which changes nothing. acc moves to `merged`, element e of tile t at
  /// (4 t + e) * kThreads + thread.
  template <int kTiles>
  __device__ void end_split(int tiles, bool is_first, RowState& row, SplitSum& sum,
                            float (&acc)[kTiles][4]) const {
    const int r = static_cast<int>(threadIdx.x) / 8, lane = static_cast<int>(threadIdx.x) % 32;
    const SplitSum split = row.sum();
    row = {};
    SplitSum::Factors f{};
    if (is_first)
      sum = split;
    else
      f = sum.merge(split);
    if (threadIdx.x % 8 == 0) {
      factor[r] = f.before;
      total[r] = f.now;
    }
    __syncthreads();
    MOERL_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      if (t >= tiles) continue;
      MOERL_UNROLL
      for (int e = 0; e < 4; ++e) {
        float* to = merged + (4 * t + e) * kThreads + threadIdx.x;
        const int of = lane / 4 + e / 2 * 8;
        *to = is_first ? acc[t][e] : fma(acc[t][e], total[of], *to * factor[of]);
        acc[t][e] = 0.0f;
      }
    }
    __syncthreads();  // before the factors are written again
  }
};

/// kTiles: at least the columns of the values / 32.
template <int kTiles>
__global__ void __launch_bounds__(MmaAttention::kThreads)
    mma_attention_kernel(AttentionForwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  constexpr int kRows = MmaAttention::kRows;
  const AttentionDims& d = args.dims;
  const AttentionSegmentCuda segment = args.segments[blockIdx.z];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int tiles = static_cast<int>(d.v_dim) / 32;
  // 64-bit divisions are slow; a segment's rows of one key head are fewer than 2^31.
  const int group = static_cast<int>(d.num_heads) / static_cast<int>(d.num_kv_heads);
  const unsigned row_tiles = gridDim.x / static_cast<unsigned>(args.side_by_side());
  const int64_t kv_head = blockIdx.y, split = blockIdx.x / row_tiles;
  const int64_t begin = int64_t{blockIdx.x % row_tiles} * kRows;
  const int64_t left = segment.num_rows * group - begin;
  if (left <= 0) return;
  const int count = static_cast<int>(left < kRows ? left : kRows);
  auto position = [&](int r) { return segment.start + static_cast<int>(begin + r) / group; };
  auto batch_row = [&](int r) {
    const int n = static_cast<int>(begin + r);
    return (segment.first_row + n / group) * d.num_heads + kv_head * group + n % group;
  };
  const SplitWalk walk(args, split, position(count - 1));
  if (walk.begin >= walk.end) return;
  const bool has_values = args.values != nullptr;
  const MmaAttention memory(shared, d, has_values);
  auto slab = [&](const void* cache, int64_t at, int64_t width) {
    const int64_t slot = segment.block_table[at / kKvBlock] * d.num_kv_heads + kv_head;
    return static_cast<const bf16*>(cache) + slot * kKvBlock * width;
  };
  auto request_keys = [&](int64_t at) {
    if (at < walk.end)
      MmaAttention::request(slab(args.keys, at, d.k_dim), d.k_dim, d.k_dim, kKvBlock,
                            MmaAttention::kKeyPitch, memory.keys);
    else
      cp_async_commit();
  };
  auto request_values = [&](int64_t at) {
    if (has_values && at < walk.end)
      MmaAttention::request(slab(args.values, at, d.v_dim), kKvBlock, walk.end - at, d.v_dim,
                            d.v_dim + MmaAttention::kPad, memory.values);
    else
      cp_async_commit();
  };
  request_keys(walk.begin);
  request_values(walk.begin);
  for (int r = 0; r < kRows; ++r) {
    const bf16* from = static_cast<const bf16*>(args.q) + (r < count ? batch_row(r) : 0) * d.k_dim;
    for (int64_t i = threadIdx.x; i < d.k_dim; i += MmaAttention::kThreads)
      memory.q[r * (d.k_dim + MmaAttention::kPad) + i] = r < count ? from[i] : bf16{0};
  }

  const int my_row = static_cast<int>(threadIdx.x) / 8;
  const int64_t my_position = my_row < count ? position(my_row) : -1;
  MmaAttention::RowState row;
  SplitSum sum;  // of the splits before the present one, if any
  float acc[kTiles][4] = {};
  int64_t split_begin = walk.begin;
  for (int64_t at = walk.begin; at < walk.end; at += kKvBlock) {
    if (at == split_begin + kKvSplit) {
      memory.end_split(tiles, split_begin == 0, row, sum, acc);
      split_begin = at;
    }
    cp_async_wait<1>();
    __syncthreads();  // keys are there
    memory.score(d);
    __syncthreads();
    if (has_values)
      request_keys(at + kKvBlock);
    else if (walk.end - at < kKvBlock)
      memory.clear_keys_behind(walk.end - at, d.v_dim);
    memory.softmax(args.scale, my_position - at + 1, row);
    cp_async_wait<1>();
    __syncthreads();  // values are there, and p
    memory.add_values(d, tiles, acc);
    __syncthreads();
    if (!has_values) request_keys(at + kKvBlock);
    request_values(at + kKvBlock);
  }
  cp_async_wait<0>();

  const bool walked_several = split_begin > walk.begin;
  if (walked_several)
    memory.end_split(tiles, false, row, sum, acc);
  else
    sum = row.sum();
  const bool is_partial = args.partials != nullptr;
  if (threadIdx.x % 8 == 0) {
    memory.total[my_row] = sum.total;
    if (my_row < count && is_partial) {
      float* partial = partial_of(args, split, batch_row(my_row));
      partial[0] = sum.max;
      partial[1] = sum.total;
    } else if (my_row < count && args.lse != nullptr) {
      args.lse[batch_row(my_row)] = sum.max + log(sum.total);
    }
  }
  __syncthreads();
  MOERL_UNROLL
  for (int e = 0; e < 4; ++e) {
    const int r = lane / 4 + e / 2 * 8;
    if (r >= count) continue;
    const int64_t to = batch_row(r);
    float* partial = is_partial ? partial_of(args, split, to) + 2 : nullptr;
    bf16* o = static_cast<bf16*>(args.o) + to * d.v_dim;
    MOERL_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      if (t >= tiles) continue;
      const float value = walked_several
                              ? memory.merged[(4 * t + e) * MmaAttention::kThreads + threadIdx.x]
                              : acc[t][e];
      const int column = (warp * tiles + t) * 8 + lane % 4 * 2 + e % 2;
      if (is_partial)
        partial[column] = value;
      else
        store(o + column, value / memory.total[r]);
    }
  }
}

}  // namespace moerl::kernels::cuda
