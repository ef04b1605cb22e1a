#include "kernels/attention/attention_impl.h"
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

/// Which rows, and where: the tile's rows and the keys of a block among those of the batch. Rows of
/// one (segment, key head) are fewer than 2^31: 64-bit divisions are slow.
struct Place {
  const AttentionBackwardCuda& args;
  AttentionSegmentCuda segment;
  int64_t kv_head;

  __device__ int group() const {
    return static_cast<int>(args.dims.num_heads) / static_cast<int>(args.dims.num_kv_heads);
  }
  __device__ int64_t num_rows() const { return segment.num_rows * group(); }
  __device__ int position(int64_t row) const { return static_cast<int>(row) / group(); }
  __device__ int64_t batch_row(int64_t row) const {
    return (segment.first_row + position(row)) * args.dims.num_heads + kv_head * group() +
           static_cast<int>(row) % group();
  }
  __device__ int64_t batch_key(int64_t position) const {
    return (segment.first_row + position) * args.dims.num_kv_heads + kv_head;
  }
};

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
  __device__ void place_rows(const Place& at, int64_t first_row) const {
    const int64_t row = first_row + threadIdx.x;
    if (threadIdx.x < kTileRows) row_at[threadIdx.x] = row < at.num_rows() ? at.batch_row(row) : -1;
  }
};

/// dot[r] = sum over i ascending of a[row r, i] b[key, i], for the rows of the warp and the key of
/// the lane; zeros stand for rows and keys that are not there.
template <typename T>
__device__ void multiply(const Place& at, const void* a, const void* b, int64_t width,
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
__device__ void probabilities(const Place& at, int64_t first_row, int64_t block,
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
  __device__ RowRange(const Place& at, int64_t first_row, int64_t block) {
    const int64_t from = block * kKvBlock * at.group() - first_row, to = at.num_rows() - first_row;
    first = static_cast<int>(from < 0 ? 0 : from);
    end = static_cast<int>(to < kTileRows ? to : kTileRows);
  }
};

/// dq of a tile of rows: a chain over keys ascending.
template <typename T>
__global__ void __launch_bounds__(kTileThreads, 4) dq_kernel(AttentionBackwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  const Place at{args, args.segments[blockIdx.z], blockIdx.y};
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
  const Place at{args, args.segments[blockIdx.z], blockIdx.y};
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

template <typename T>
void backward_as(const AttentionBackwardCuda& args) {
  const char* op = "attention_backward";
  const AttentionDims& d = args.dims;
  const int64_t rows = args.rows * d.num_heads;
  auto grid = [&](int64_t count, int64_t size) {
    return dim3(blocks_for(count, size), static_cast<unsigned>(d.num_kv_heads),
                static_cast<unsigned>(args.num_segments));
  };
  auto bytes = [](int64_t sums) { return static_cast<size_t>(TileMemory::bytes(sums)); };
  launch(op, delta_kernel<T>, {blocks_for(rows, kThreads / 16), kThreads}, args, rows);
  launch(op, dq_kernel<T>,
         {grid(args.most_rows * d.group(), kTileRows), kTileThreads, bytes(kTileRows * d.k_dim)},
         args);
  launch(op, dkv_kernel<T, true>,
         {grid(args.most_rows, kKvBlock), kTileThreads, bytes(kKvBlock * d.k_dim)}, args);
  launch(op, dkv_kernel<T, false>,
         {grid(args.most_rows, kKvBlock), kTileThreads, bytes(kKvBlock * d.v_dim)}, args);
}

void backward(const AttentionBackwardCuda& args) {
  args.is_bf16 ? backward_as<bf16>(args) : backward_as<float>(args);
}

const RegisterCudaOps<AttentionGradCuda> registered({backward});

}  // namespace
}  // namespace moerl::kernels::cuda
