#include "kernels/attention/attention_backward_mma_cuda.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/rows.h"

namespace moerl::kernels::cuda {
namespace {

// A block has a tile of query rows and a block of keys of one (segment, key head) in hand. For the
// products over a head's width a warp looks after four rows and a lane after a key; the width is
// staged in chunks. For the sums a thread looks after columns.
constexpr int kTileRows = 16, kWarpRows = 4, kTileThreads = kTileRows / kWarpRows * 32, kChunk = 32;
constexpr int kKeyPitch = kKvBlock + 1;  // no bank conflicts
static_assert(kKvBlock == 32);

struct TileMemory {
  float *rows, *keys;  // [kTileRows, kChunk], [kChunk, kKeyPitch]: a chunk of two operands
  float *p, *ds;       // [kKvBlock, kTileRows]
  int64_t* row_at;     // [kTileRows] among the batch's T * H rows, -1: not there
  float* sums;         // of the kernel, the rest

  __device__ explicit TileMemory(unsigned char* shared)
      : rows(reinterpret_cast<float*>(shared)),
        keys(rows + kTileRows * kChunk),
        p(keys + kChunk * kKeyPitch),
        ds(p + kKvBlock * kTileRows),
        row_at(reinterpret_cast<int64_t*>(ds + kKvBlock * kTileRows)),
        sums(reinterpret_cast<float*>(row_at + kTileRows)) {}
  static constexpr int64_t bytes(int64_t sums) {
    return 4 * (kTileRows * kChunk + kChunk * kKeyPitch + 2 * kKvBlock * kTileRows + 2 * kTileRows +
                sums);
  }

  /// To be followed by a barrier.
  __device__ void place_rows(const AttentionPlace& at, int64_t first_row) const {
    if (threadIdx.x < kTileRows) row_at[threadIdx.x] = at.find_row(first_row + threadIdx.x);
  }
};

/// dot[r] = sum over i ascending of a[row r, i] b[key, i], for the rows of the warp and the key of
/// the lane; zeros stand for rows and keys that are not there.
template <typename T>
__device__ void multiply(const AttentionPlace& at, const void* a, const void* b, int64_t width,
                         int64_t first_key, const TileMemory& memory, float (&dot)[kWarpRows]) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const T* rows = static_cast<const T*>(a);
  const T* keys = static_cast<const T*>(b);
  MOERL_UNROLL
  for (int r = 0; r < kWarpRows; ++r) dot[r] = 0.0f;
  for (int64_t begin = 0; begin < width; begin += kChunk) {
    const int64_t i = begin + lane;
    for (int n = warp; n < kTileRows; n += kTileThreads / 32) {
      const int64_t row = memory.row_at[n];
      memory.rows[n * kChunk + lane] = row >= 0 && i < width ? load(rows + row * width + i) : 0.0f;
    }
    for (int n = warp; n < kKvBlock; n += kTileThreads / 32) {
      const int64_t key = first_key + n;
      memory.keys[lane * kKeyPitch + n] = key < at.segment.num_rows && i < width
                                              ? load(keys + at.batch_key(key) * width + i)
                                              : 0.0f;
    }
    __syncthreads();
    const int steps = static_cast<int>(width - begin < kChunk ? width - begin : kChunk);
    for (int j = 0; j < steps; ++j) {
      const float key = memory.keys[j * kKeyPitch + lane];
      MOERL_UNROLL
      for (int r = 0; r < kWarpRows; ++r)
        dot[r] = fma(memory.rows[(warp * kWarpRows + r) * kChunk + j], key, dot[r]);
    }
    __syncthreads();
  }
}

/// P and, where wanted, dS of the tile's rows against a block of keys, 0 where the key lies behind
/// the row. All threads see them when it returns, and are done with the former ones before they are
/// overwritten.
template <typename T, bool kWithDs>
__device__ void probabilities(const AttentionPlace& at, int64_t first_row, int64_t block,
                              const TileMemory& memory) {
  const AttentionBackwardCuda& args = at.args;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float score[kWarpRows], dp[kWarpRows];
  multiply<T>(at, args.q, args.k, args.dims.k_dim, block * kKvBlock, memory, score);
  if (kWithDs) multiply<T>(at, args.dout, args.v, args.dims.v_dim, block * kKvBlock, memory, dp);
  MOERL_UNROLL
  for (int r = 0; r < kWarpRows; ++r) {
    const int n = warp * kWarpRows + r;
    const int64_t from = memory.row_at[n];
    float p = 0.0f, ds = 0.0f;
    if (from >= 0 && block * kKvBlock + lane <= at.position(first_row + n)) {
      p = exp(score[r] * args.scale - args.lse[from]);
      if (kWithDs) ds = args.scale * p * (dp[r] - args.delta[from]);
    }
    memory.p[lane * kTileRows + n] = p;
    if (kWithDs) memory.ds[lane * kTileRows + n] = ds;
  }
  __syncthreads();
}

/// The tile's rows that see any key of the block, and are there: [first, end).
struct RowRange {
  int first, end;
  __device__ RowRange(const AttentionPlace& at, int64_t first_row, int64_t block) {
    const int64_t from = block * kKvBlock * at.group() - first_row, to = at.num_rows() - first_row;
    first = static_cast<int>(from < 0 ? 0 : from);
    end = static_cast<int>(to < kTileRows ? to : kTileRows);
  }
};

/// dq of a tile of rows: a chain over keys ascending.
template <typename T>
__global__ void __launch_bounds__(kTileThreads, 4) dq_kernel(AttentionBackwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  const AttentionPlace at{args, args.segments[blockIdx.z], blockIdx.y};
  const TileMemory memory(shared);
  const int64_t first_row = int64_t{blockIdx.x} * kTileRows, dim = args.dims.k_dim;
  if (first_row >= at.num_rows()) return;
  memory.place_rows(at, first_row);
  __syncthreads();
  for (int64_t i = threadIdx.x; i < kTileRows * dim; i += kTileThreads) memory.sums[i] = 0.0f;
  const RowRange all(at, first_row, 0);
  const int64_t last = at.position(first_row + all.end - 1);
  const T* keys = static_cast<const T*>(args.k);
  for (int64_t block = 0; block * kKvBlock <= last; ++block) {
    probabilities<T, true>(at, first_row, block, memory);
    const RowRange range(at, first_row, block);
    for (int64_t i = threadIdx.x; i < dim; i += kTileThreads) {
      float sum[kTileRows];
      MOERL_UNROLL
      for (int r = 0; r < kTileRows; ++r) sum[r] = memory.sums[r * dim + i];
      for (int j = 0; j < kKvBlock; ++j) {
        const int64_t position = block * kKvBlock + j;
        const float key =
            position < at.segment.num_rows ? load(keys + at.batch_key(position) * dim + i) : 0.0f;
        MOERL_UNROLL
        for (int r = 0; r < kTileRows; ++r)
          if (r >= range.first && r < range.end)
            sum[r] = fma(memory.ds[j * kTileRows + r], key, sum[r]);
      }
      MOERL_UNROLL
      for (int r = 0; r < kTileRows; ++r) memory.sums[r * dim + i] = sum[r];
    }
  }
  for (int r = 0; r < all.end; ++r)
    for (int64_t i = threadIdx.x; i < dim; i += kTileThreads)
      store(static_cast<T*>(args.dq) + memory.row_at[r] * dim + i, memory.sums[r * dim + i]);
}

/// dk or dv of a block of keys: a chain over rows ascending.
template <typename T, bool kKeys>
__global__ void __launch_bounds__(kTileThreads) dkv_kernel(AttentionBackwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  const AttentionPlace at{args, args.segments[blockIdx.z], blockIdx.y};
  const TileMemory memory(shared);
  const int64_t block = blockIdx.x, dim = kKeys ? args.dims.k_dim : args.dims.v_dim;
  if (block * kKvBlock >= at.segment.num_rows) return;
  for (int64_t i = threadIdx.x; i < kKvBlock * dim; i += kTileThreads) memory.sums[i] = 0.0f;
  const T* rows = static_cast<const T*>(kKeys ? args.q : args.dout);
  const float* weights = kKeys ? memory.ds : memory.p;
  for (int64_t first_row = block * kKvBlock * at.group() / kTileRows * kTileRows;
       first_row < at.num_rows(); first_row += kTileRows) {
    memory.place_rows(at, first_row);
    __syncthreads();
    probabilities<T, kKeys>(at, first_row, block, memory);
    const RowRange range(at, first_row, block);
    for (int64_t i = threadIdx.x; i < dim; i += kTileThreads) {
      float row[kTileRows];
      MOERL_UNROLL
      for (int r = 0; r < kTileRows; ++r)
        row[r] = r < range.end ? load(rows + memory.row_at[r] * dim + i) : 0.0f;
      for (int j = 0; j < kKvBlock; ++j) {
        float sum = memory.sums[j * dim + i];
        MOERL_UNROLL
        for (int r = 0; r < kTileRows; ++r)
          if (r >= range.first && r < range.end) sum = fma(weights[j * kTileRows + r], row[r], sum);
        memory.sums[j * dim + i] = sum;
      }
    }
    __syncthreads();  // before the rows are placed again
  }
  T* out = static_cast<T*>(kKeys ? args.dk : args.dv);
  for (int64_t j = 0; j < kKvBlock && block * kKvBlock + j < at.segment.num_rows; ++j)
    for (int64_t i = threadIdx.x; i < dim; i += kTileThreads)
      store(out + at.batch_key(block * kKvBlock + j) * dim + i, memory.sums[j * dim + i]);
}

/// delta = rowsum(do * o): half a warp a row, sixteen lane sums.
template <typename T>
__global__ void __launch_bounds__(kThreads) delta_kernel(AttentionBackwardCuda args, int64_t rows) {
  const int64_t row = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 16, dim = args.dims.v_dim;
  const T* dout = static_cast<const T*>(args.dout) + row * dim;
  const T* o = static_cast<const T*>(args.o) + row * dim;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x % 16; row < rows && i < args.dims.v_padded(); i += 16)
    sum = i < dim ? fma(load(dout + i), load(o + i), sum) : fma(0.0f, 0.0f, sum);
  sum = sum_lanes(sum);
  if (row < rows && threadIdx.x % 16 == 0) args.delta[row] = sum;
}

/// The segments' key heads, cut into parts of `size` of at most `most` rows or keys.
dim3 grid_of(const AttentionBackwardCuda& args, int64_t most, int64_t size) {
  return dim3(blocks_for(most, size), static_cast<unsigned>(args.dims.num_kv_heads),
              static_cast<unsigned>(args.num_segments));
}

constexpr const char* kOp = "attention_backward";

template <typename T>
void launch_delta(const AttentionBackwardCuda& args) {
  const int64_t rows = args.rows * args.dims.num_heads;
  launch(kOp, delta_kernel<T>, {blocks_for(rows, kThreads / 16), kThreads}, args, rows);
}

template <typename T>
void launch_on_cuda_cores(const AttentionBackwardCuda& args) {
  const AttentionDims& d = args.dims;
  auto shape = [&](int64_t most, int64_t size, int64_t sums) {
    return LaunchShape{grid_of(args, most, size), kTileThreads,
                       static_cast<size_t>(TileMemory::bytes(sums))};
  };
  launch_delta<T>(args);
  launch(kOp, dq_kernel<T>, shape(args.most_rows * d.group(), kTileRows, kTileRows * d.k_dim),
         args);
  launch(kOp, dkv_kernel<T, true>, shape(args.most_rows, kKvBlock, kKvBlock * d.k_dim), args);
  launch(kOp, dkv_kernel<T, false>, shape(args.most_rows, kKvBlock, kKvBlock * d.v_dim), args);
}

void launch_on_tensor_cores(const AttentionBackwardCuda& args) {
  const AttentionDims& d = args.dims;
  auto shape = [&](int64_t most, int64_t size) {
    return LaunchShape{grid_of(args, most, size), MmaAttentionGrad::kThreads,
                       MmaAttentionGrad::shared_bytes(d)};
  };
  const bool narrow = d.k_dim <= 192 && d.v_dim <= 128;
  launch_delta<bf16>(args);
  launch(kOp, narrow ? mma_dq_kernel<3> : mma_dq_kernel<9>,
         shape(args.most_rows * d.group(), MmaAttentionGrad::kRows), args);
  launch(kOp, narrow ? mma_dkv_kernel<3, 2> : mma_dkv_kernel<9, 8>, shape(args.most_rows, kKvBlock),
         args);
}

void backward(const AttentionBackwardCuda& args) {
  if (MmaAttentionGrad::fits(args)) return launch_on_tensor_cores(args);
  args.is_bf16 ? launch_on_cuda_cores<bf16>(args) : launch_on_cuda_cores<float>(args);
}

const RegisterCudaOps<AttentionGradCuda> registered({backward});

}  // namespace
}  // namespace moerl::kernels::cuda
