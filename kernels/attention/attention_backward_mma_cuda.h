#pragma once
// The backward pass on tensor cores: bf16, widths that are multiples of 32. Included by
// attention_backward_cuda.cu only.
//
// The formulas of attention.h with sums by mma, in steps of sixteen and in fp32: a score and a dP
// over d ascending in two halves, which are added; dq over keys ascending, dk and dv over rows
// ascending. P and dS are rounded to bf16 before they are multiplied. Tiles of rows and blocks of
// keys begin at multiples of 32 of the sequence's own, so the order depends on the sequence alone.
// A row that does not see a key has P = dS = 0 for it; in place of rows and keys behind the
// sequence's end there are zeros.

#include "kernels/attention/attention_place_cuda.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/tensor_core.h"

namespace moerl::kernels::cuda {

/// A tile of rows and a block of keys of one (segment, key head). For the products over a head's
/// width each of eight warps has sixteen rows, sixteen keys and one half of the width; for the sums
/// it has every eighth of the tiles of eight columns.
struct MmaAttentionGrad {
  static constexpr int kRows = 32, kWarps = 8, kThreads = kWarps * 32, kPad = 8;
  static constexpr int kWeightPitch = kKvBlock + kPad;
  static_assert(kRows == 32 && kKvBlock == 32);
  static constexpr int64_t kMostKeyDim = 576, kMostValueDim = 512;

  static bool fits(const AttentionBackwardCuda& args) {
    const AttentionDims& d = args.dims;
    return args.is_bf16 && d.k_dim % 32 == 0 && d.v_dim % 32 == 0 && d.k_dim <= kMostKeyDim &&
           d.v_dim <= kMostValueDim;
  }
  static size_t shared_bytes(const AttentionDims& d) {
    const int64_t elements =
        2 * kRows * (d.k_dim + kPad + d.v_dim + kPad) + 2 * kRows * kWeightPitch;
    return static_cast<size_t>(2 * elements + 4 * 8 * kThreads);
  }

  int k_dim, v_dim;
  bf16 *q, *dout;   // [kRows, Dk], [kRows, Dv]
  bf16 *k, *v;      // [kKvBlock, Dk], [kKvBlock, Dv]
  bf16 *p, *ds;     // [kRows, kKvBlock]
  float* exchange;  // [8, kThreads]

  __device__ MmaAttentionGrad(unsigned char* shared, const AttentionDims& d)
      : k_dim(static_cast<int>(d.k_dim)),
        v_dim(static_cast<int>(d.v_dim)),
        q(reinterpret_cast<bf16*>(shared)),
        dout(q + kRows * (k_dim + kPad)),
        k(dout + kRows * (v_dim + kPad)),
        v(k + kKvBlock * (k_dim + kPad)),
        p(v + kKvBlock * (v_dim + kPad)),
        ds(p + kRows * kWeightPitch),
        exchange(reinterpret_cast<float*>(ds + kRows * kWeightPitch)) {}

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  // The warp's part of a product: its rows, its keys, its half of the width.
  __device__ static int warp_row() { return warp() / 2 % 2 * 16; }
  __device__ static int warp_key() { return warp() % 2 * 16; }
  __device__ static int warp_half() { return warp() / 4; }

  /// Asks for 32 rows of `width` elements, the n-th row at(n) of `from`; zeros where that is
  /// negative.
  template <typename At>
  __device__ static void request(const void* from, int width, bf16* to, const At& at) {
    for (int n = warp(); n < kRows; n += kWarps) {
      const int64_t row = at(n);
      const bf16* source = static_cast<const bf16*>(from) + (row < 0 ? 0 : row) * width;
      for (int i = lane() * 8; i < width; i += 32 * 8)
        cp_async_16(to + n * (width + kPad) + i, source + i, row < 0 ? 0 : 16);
    }
  }

  /// A tile's rows: lane n of every warp knows of the n-th.
  struct Rows {
    int64_t row;   // among the batch's, -1: not there
    int position;  // -1: not there
    float lse, delta;

    __device__ Rows(const AttentionPlace& at, int64_t first_row)
        : row(at.find_row(first_row + lane())),
          position(row < 0 ? -1 : at.position(first_row + lane())),
          lse(row < 0 ? 0.0f : at.args.lse[row]),
          delta(row < 0 ? 0.0f : at.args.delta[row]) {}
  };
  __device__ static void request_rows(const Rows& rows, const void* from, int width, bf16* to) {
    request(from, width, to, [&](int n) { return __shfl_sync(~0u, rows.row, n); });
  }
  __device__ void request_keys(const AttentionPlace& at, const void* from, int width, bf16* to,
                               int64_t first_key) const {
    request(from, width, to, [&](int n) { return at.find_key(first_key + n); });
  }

  /// The warp's part of a b^T; two tiles of eight keys.
  __device__ static void multiply(const bf16* a, const bf16* b, int width, float (&sum)[2][4]) {
    const int pitch = width + kPad, from = warp_half() * width / 2;
    const bf16* left = a + (warp_row() + lane() % 16) * pitch + lane() / 16 * 8;
    const bf16* right =
        b + (warp_key() + lane() % 8 + lane() / 16 * 8) * pitch + lane() / 8 % 2 * 8;
    MOERL_UNROLL
    for (int e = 0; e < 4; ++e) sum[0][e] = sum[1][e] = 0.0f;
    for (int i = from; i < from + width / 2; i += 16) {
      uint32_t rows[4], keys[4];
      ldmatrix_x4<false>(rows, left + i);
      ldmatrix_x4<false>(keys, right + i);
      MOERL_UNROLL
      for (int t = 0; t < 2; ++t) {
        const uint32_t tile[2] = {keys[2 * t], keys[2 * t + 1]};
        mma_bf16(sum[t], rows, tile);
      }
    }
  }

  /// P and dS from the products s = q k^T and dp = do v^T. The warps that have the two halves of
  /// the width of a part each finish eight of its keys. Has a barrier; to be followed by one.
  __device__ void weigh(const float (&s)[2][4], const float (&product)[2][4], const Rows& rows,
                        int64_t first_key, float scale) const {
    const int thread = static_cast<int>(threadIdx.x), other = thread ^ kThreads / 2;
    const bool low = warp_half() == 0;
    MOERL_UNROLL
    for (int e = 0; e < 4; ++e) {
      exchange[e * kThreads + thread] = low ? s[1][e] : s[0][e];
      exchange[(4 + e) * kThreads + thread] = low ? product[1][e] : product[0][e];
    }
    int position[2];
    float lse[2], delta[2];
    MOERL_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int row = warp_row() + lane() / 4 + 8 * i;
      position[i] = __shfl_sync(~0u, rows.position, row);
      lse[i] = __shfl_sync(~0u, rows.lse, row);
      delta[i] = __shfl_sync(~0u, rows.delta, row);
    }
    __syncthreads();
    MOERL_UNROLL
    for (int e = 0; e < 4; ++e) {
      const float score = (low ? s[0][e] : s[1][e]) + exchange[e * kThreads + other];
      const float dp = (low ? product[0][e] : product[1][e]) + exchange[(4 + e) * kThreads + other];
      const int key = warp_key() + warp_half() * 8 + lane() % 4 * 2 + e % 2;
      const bool sees = first_key + key <= position[e / 2];
      const float weight = sees ? exp(score * scale - lse[e / 2]) : 0.0f;
      const int at = (warp_row() + lane() / 4 + e / 2 * 8) * kWeightPitch + key;
      store(p + at, weight);
      store(ds + at, sees ? scale * weight * (dp - delta[e / 2]) : 0.0f);
    }
  }

  /// sum += a b, with a [32, 32] being P, dS or the transpose of one, and b [32, width]. Of the
  /// tiles of eight columns every eighth is the warp's.
  template <bool kTransposed, int kTiles>
  __device__ static void add(const bf16* a, const bf16* b, int width, float (&sum)[2][kTiles][4]) {
    uint32_t left[2][2][4];
    MOERL_UNROLL
    for (int m = 0; m < 2; ++m) MOERL_UNROLL
    for (int k = 0; k < 2; ++k) {
      const int first = lane() / 8 % 2 * 8, second = lane() / 16 * 8, row = lane() % 8;
      if constexpr (kTransposed)
        ldmatrix_x4<true>(left[m][k], a + (k * 16 + second + row) * kWeightPitch + m * 16 + first);
      else
        ldmatrix_x4<false>(left[m][k], a + (m * 16 + first + row) * kWeightPitch + k * 16 + second);
    }
    MOERL_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const int column = (t * kWarps + warp()) * 8;
      if (column >= width) continue;
      uint32_t right[4];  // 32 rows of eight columns
      ldmatrix_x4<true>(right, b + lane() * (width + kPad) + column);
      MOERL_UNROLL
      for (int k = 0; k < 2; ++k) {
        const uint32_t half[2] = {right[2 * k], right[2 * k + 1]};
        MOERL_UNROLL
        for (int m = 0; m < 2; ++m) mma_bf16(sum[m][t], left[m][k], half);
      }
    }
  }

  /// Rounds the sums of 32 rows to `to`, the n-th to row at(n); none where that is negative.
  template <int kTiles, typename At>
  __device__ static void write(const float (&sum)[2][kTiles][4], void* to, int width,
                               const At& at) {
    MOERL_UNROLL
    for (int m = 0; m < 2; ++m) MOERL_UNROLL
    for (int e = 0; e < 4; ++e) {
      const int64_t row = at(m * 16 + lane() / 4 + e / 2 * 8);
      if (row < 0) continue;
      MOERL_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        const int column = (t * kWarps + warp()) * 8;
        if (column < width)
          store(static_cast<bf16*>(to) + row * width + column + lane() % 4 * 2 + e % 2,
                sum[m][t][e]);
      }
    }
  }
};

/// dq of a tile of rows. kTiles: at least Dk / 64, rounded up.
template <int kTiles>
__global__ void __launch_bounds__(MmaAttentionGrad::kThreads, kTiles > 3 ? 1 : 2)
    mma_dq_kernel(AttentionBackwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  constexpr int kRows = MmaAttentionGrad::kRows;
  const AttentionPlace at{args, args.segments[blockIdx.z], blockIdx.y};
  const MmaAttentionGrad memory(shared, args.dims);
  // The last tile sees most keys, and begins first.
  const int64_t first_row = int64_t{gridDim.x - 1 - blockIdx.x} * kRows;
  if (first_row >= at.num_rows()) return;
  const int64_t behind = first_row + kRows < at.num_rows() ? first_row + kRows : at.num_rows();
  const int64_t last = at.position(behind - 1);
  auto request_keys = [&](int64_t key) {
    if (key <= last) memory.request_keys(at, args.k, memory.k_dim, memory.k, key);
    cp_async_commit();
  };
  auto request_values = [&](int64_t key) {
    if (key <= last) memory.request_keys(at, args.v, memory.v_dim, memory.v, key);
    cp_async_commit();
  };
  const MmaAttentionGrad::Rows rows(at, first_row);
  memory.request_rows(rows, args.dout, memory.v_dim, memory.dout);
  request_values(0);
  memory.request_rows(rows, args.q, memory.k_dim, memory.q);
  request_keys(0);

  float dq[2][kTiles][4] = {}, s[2][4], dp[2][4];
  for (int64_t key = 0; key <= last; key += kKvBlock) {
    cp_async_wait<1>();
    __syncthreads();  // values are there
    memory.multiply(memory.dout, memory.v, memory.v_dim, dp);
    cp_async_wait<0>();
    __syncthreads();  // keys are there, and all are done with the values
    request_values(key + kKvBlock);
    memory.multiply(memory.q, memory.k, memory.k_dim, s);
    memory.weigh(s, dp, rows, key, args.scale);
    __syncthreads();
    memory.add<false>(memory.ds, memory.k, memory.k_dim, dq);
    __syncthreads();  // all are done with the keys
    request_keys(key + kKvBlock);
  }
  cp_async_wait<0>();
  memory.write(dq, args.dq, memory.k_dim, [&](int n) { return at.find_row(first_row + n); });
}

/// dk and dv of a block of keys. kKeyTiles and kValueTiles: at least Dk / 64 and Dv / 64, rounded
/// up.
template <int kKeyTiles, int kValueTiles>
__global__ void __launch_bounds__(MmaAttentionGrad::kThreads, kKeyTiles > 3 ? 1 : 2)
    mma_dkv_kernel(AttentionBackwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  const AttentionPlace at{args, args.segments[blockIdx.z], blockIdx.y};
  const MmaAttentionGrad memory(shared, args.dims);
  const int64_t first_key = int64_t{blockIdx.x} * kKvBlock;
  if (first_key >= at.segment.num_rows) return;
  int64_t row = first_key * at.group();
  MmaAttentionGrad::Rows rows(at, row);
  auto request_q = [&] {
    memory.request_rows(rows, args.q, memory.k_dim, memory.q);
    cp_async_commit();
  };
  auto request_dout = [&] {
    memory.request_rows(rows, args.dout, memory.v_dim, memory.dout);
    cp_async_commit();
  };
  memory.request_keys(at, args.k, memory.k_dim, memory.k, first_key);
  request_q();
  memory.request_keys(at, args.v, memory.v_dim, memory.v, first_key);
  request_dout();

  float dk[2][kKeyTiles][4] = {}, dv[2][kValueTiles][4] = {}, s[2][4], dp[2][4];
  while (row < at.num_rows()) {
    cp_async_wait<1>();
    __syncthreads();  // q is there
    memory.multiply(memory.q, memory.k, memory.k_dim, s);
    cp_async_wait<0>();
    __syncthreads();  // do is there
    memory.multiply(memory.dout, memory.v, memory.v_dim, dp);
    memory.weigh(s, dp, rows, first_key, args.scale);
    row += MmaAttentionGrad::kRows;
    rows = MmaAttentionGrad::Rows(at, row);
    __syncthreads();
    memory.add<true>(memory.ds, memory.q, memory.k_dim, dk);
    __syncthreads();  // all are done with q
    request_q();
    memory.add<true>(memory.p, memory.dout, memory.v_dim, dv);
    __syncthreads();  // all are done with do
    request_dout();
  }
  cp_async_wait<0>();
  auto key_at = [&](int n) { return at.find_key(first_key + n); };
  memory.write(dk, args.dk, memory.k_dim, key_at);
  memory.write(dv, args.dv, memory.v_dim, key_at);
}

}  // namespace moerl::kernels::cuda
