#include "kernels/attention/attention_mma_cuda.h"
#include "kernels/cuda/backend.h"

namespace moerl::kernels::cuda {
namespace {

// On CUDA cores: a warp looks after a few rows of one key head of one segment, a lane after one
// position of the key block, then after every 32nd column of the values. Warps do not meet.
constexpr int kWarps = 4, kWarpRows = 4;
static_assert(kKvBlock == 32 && kWarps * kWarpRows == kAttentionBlockRows);

/// What a warp keeps in shared memory.
struct WarpMemory {
  float *q, *p;         // [kWarpRows, Dk], [kWarpRows, kKvBlock]
  float *acc, *merged;  // [kWarpRows, Dv]: of the present split; of those before it, if any

  __device__ WarpMemory(unsigned char* shared, const AttentionForwardCuda& args, int warp)
      : q(reinterpret_cast<float*>(shared) + warp * floats(args)),
        p(q + kWarpRows * args.dims.k_dim),
        acc(p + kWarpRows * kKvBlock),
        merged(acc + kWarpRows * args.dims.v_dim) {}
  /// Of one warp.
  static constexpr __host__ __device__ int64_t floats(const AttentionForwardCuda& args) {
    const int64_t sums = args.num_splits() > 1 && args.partials == nullptr ? 2 : 1;
    return kWarpRows * (args.dims.k_dim + kKvBlock + sums * args.dims.v_dim);
  }
};

/// The state of the warp's rows on their walk over the key blocks. A lane below sixteen holds the
/// partial sum l of its number.
struct WarpRows {
  float max[kWarpRows], sum[kWarpRows], factor[kWarpRows];  // in the present split
  SplitSum merged[kWarpRows];
  int64_t position[kWarpRows];
  int valid[kWarpRows];  // keys of the present block that the row sees
};

__device__ __forceinline__ float max_of_warp(float x) {
  for (int half = 16; half >= 1; half /= 2) x = max(x, __shfl_xor_sync(~0u, x, half));
  return x;
}

/// Scores and probabilities of the block's keys, and the rows' new maxima and sums.
template <typename T>
__device__ void score_block(const AttentionDims& d, const T* keys, float scale,
                            const WarpMemory& memory, WarpRows& rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float score[kWarpRows] = {};
  for (int64_t i = 0; i < d.k_dim; ++i) {
    const float key = load(keys + i * kKvBlock + lane);
    MOERL_UNROLL
    for (int r = 0; r < kWarpRows; ++r) score[r] = fma(memory.q[r * d.k_dim + i], key, score[r]);
  }
  MOERL_UNROLL
  for (int r = 0; r < kWarpRows; ++r) {
    if (rows.valid[r] <= 0) continue;  // the same for all lanes
    const float x = lane < rows.valid[r] ? score[r] * scale : -INFINITY;
    const float largest = max_of_warp(x);
    const float next = largest > rows.max[r] ? largest : rows.max[r];
    const float p = exp(x - next), factor = exp(rows.max[r] - next);
    const float p_behind = __shfl_sync(~0u, p, lane % 16 + 16);
    rows.max[r] = next;
    rows.factor[r] = factor;
    rows.sum[r] = rows.sum[r] * factor + p + p_behind;
    memory.p[r * kKvBlock + lane] = p;
  }
}

/// Where the values of a block lie: value i of key j at values[j * key_stride + i * stride].
template <typename T>
struct BlockValues {
  const T* values;
  int64_t key_stride, stride;
};

/// acc = acc * factor + P V. Keys that a row does not see are left out: their slots may hold
/// anything.
template <typename T>
__device__ void add_values(const AttentionDims& d, const BlockValues<T>& block,
                           const WarpMemory& memory, const WarpRows& rows) {
  int most = 0;
  MOERL_UNROLL
  for (int r = 0; r < kWarpRows; ++r) most = rows.valid[r] > most ? rows.valid[r] : most;
  for (int64_t i = threadIdx.x % 32; i < d.v_dim; i += 32) {
    float acc[kWarpRows];
    MOERL_UNROLL
    for (int r = 0; r < kWarpRows; ++r) acc[r] = memory.acc[r * d.v_dim + i] * rows.factor[r];
    for (int j = 0; j < most; ++j) {
      const float value = load(block.values + j * block.key_stride + i * block.stride);
      MOERL_UNROLL
      for (int r = 0; r < kWarpRows; ++r)
        if (j < rows.valid[r]) acc[r] = fma(memory.p[r * kKvBlock + j], value, acc[r]);
    }
    MOERL_UNROLL
    for (int r = 0; r < kWarpRows; ++r)
      if (rows.valid[r] > 0) memory.acc[r * d.v_dim + i] = acc[r];
  }
}

__device__ void start_split(const AttentionDims& d, const WarpMemory& memory, WarpRows& rows) {
  MOERL_UNROLL
  for (int r = 0; r < kWarpRows; ++r) {
    rows.max[r] = -INFINITY;
    rows.sum[r] = 0.0f;
    for (int64_t i = threadIdx.x % 32; i < d.v_dim; i += 32) memory.acc[r * d.v_dim + i] = 0.0f;
  }
}

/// Merges the split that began at position `begin` into those before it.
__device__ void end_split(const AttentionDims& d, int64_t begin, bool is_first, WarpMemory& memory,
                          WarpRows& rows) {
  MOERL_UNROLL
  for (int r = 0; r < kWarpRows; ++r) {
    const SplitSum split{rows.max[r], __shfl_sync(~0u, sum_lanes(rows.sum[r]), 0)};
    if (is_first) {
      rows.merged[r] = split;
    } else if (rows.position[r] >= begin) {
      const SplitSum::Factors f = rows.merged[r].merge(split);
      const float* acc = memory.acc + r * d.v_dim;
      float* merged = memory.merged + r * d.v_dim;
      for (int64_t i = threadIdx.x % 32; i < d.v_dim; i += 32)
        merged[i] = fma(acc[i], f.now, merged[i] * f.before);
    }
  }
  if (!is_first) return;
  float* acc = memory.acc;
  memory.acc = memory.merged;
  memory.merged = acc;
}

template <typename T>
__global__ void __launch_bounds__(kWarps * 32, 4) forward_kernel(AttentionForwardCuda args) {
  MOERL_SHARED_MEMORY(shared);
  const AttentionDims& d = args.dims;
  const AttentionSegmentCuda segment = args.segments[blockIdx.z];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  // 64-bit divisions are slow; a segment's rows of one key head are fewer than 2^31.
  const int group = static_cast<int>(d.num_heads) / static_cast<int>(d.num_kv_heads);
  const unsigned tiles = gridDim.x / static_cast<unsigned>(args.side_by_side());
  const int64_t kv_head = blockIdx.y, split = blockIdx.x / tiles;
  const int64_t begin = (int64_t{blockIdx.x % tiles} * kWarps + warp) * kWarpRows;
  const int64_t left = segment.num_rows * group - begin;
  if (left <= 0) return;
  const int count = static_cast<int>(left < kWarpRows ? left : kWarpRows);
  const SplitWalk walk(args, split, segment.start + static_cast<int>(begin + count - 1) / group);
  if (walk.begin >= walk.end) return;
  auto batch_row = [&](int64_t row) {
    const int n = static_cast<int>(row);
    return (segment.first_row + n / group) * d.num_heads + kv_head * group + n % group;
  };
  WarpMemory memory(shared, args, warp);
  WarpRows rows;
  MOERL_UNROLL
  for (int r = 0; r < kWarpRows; ++r) {
    rows.factor[r] = 0.0f;
    rows.position[r] = r < count ? segment.start + static_cast<int>(begin + r) / group : -1;
    const T* q = static_cast<const T*>(args.q) + (r < count ? batch_row(begin + r) : 0) * d.k_dim;
    for (int64_t i = lane; i < d.k_dim; i += 32)
      memory.q[r * d.k_dim + i] = r < count ? load(q + i) : 0.0f;
  }

  int64_t split_begin = walk.begin;
  start_split(d, memory, rows);
  __syncwarp();
  for (int64_t at = walk.begin; at < walk.end; at += kKvBlock) {
    MOERL_UNROLL
    for (int r = 0; r < kWarpRows; ++r) {
      const int64_t seen = rows.position[r] - at + 1;
      rows.valid[r] = static_cast<int>(seen < 0 ? 0 : seen < kKvBlock ? seen : kKvBlock);
    }
    const int64_t slot = segment.block_table[at / kKvBlock] * d.num_kv_heads + kv_head;
    const T* keys = static_cast<const T*>(args.keys) + slot * d.k_dim * kKvBlock;
    score_block(d, keys, args.scale, memory, rows);
    __syncwarp();
    const BlockValues<T> values =
        args.values == nullptr
            ? BlockValues<T>{keys, 1, kKvBlock}
            : BlockValues<T>{static_cast<const T*>(args.values) + slot * d.v_dim * kKvBlock,
                             d.v_dim, 1};
    add_values(d, values, memory, rows);
    if (at + kKvBlock == split_begin + kKvSplit || at + kKvBlock >= walk.end) {
      end_split(d, split_begin, split_begin == walk.begin, memory, rows);
      split_begin += kKvSplit;
      if (split_begin < walk.end) start_split(d, memory, rows);
    }
    __syncwarp();  // before p is written again
  }

  MOERL_UNROLL
  for (int r = 0; r < kWarpRows; ++r) {
    if (r >= count) continue;
    const int64_t to = batch_row(begin + r);
    const float* acc = memory.merged + r * d.v_dim;
    const SplitSum& sum = rows.merged[r];
    if (args.partials != nullptr) {
      float* partial = partial_of(args, split, to);
      for (int64_t i = lane; i < d.v_dim; i += 32) partial[2 + i] = acc[i];
      if (lane == 0) partial[0] = sum.max, partial[1] = sum.total;
      continue;
    }
    T* o = static_cast<T*>(args.o) + to * d.v_dim;
    for (int64_t i = lane; i < d.v_dim; i += 32) store(o + i, acc[i] / sum.total);
    if (args.lse != nullptr && lane == 0) args.lse[to] = sum.max + log(sum.total);
  }
}

template <typename Bits>
void append_as(const KvAppendCuda& args) {
  const AttentionDims d = args.dims;
  const int64_t width = d.k_dim + (args.values == nullptr ? 0 : d.v_dim);
  launch_each("kv_append", args.rows * d.num_kv_heads * width, [=] __device__(int64_t n) {
    const int64_t i = n % width, head = n / width % d.num_kv_heads, t = n / width / d.num_kv_heads;
    const int64_t slot = args.slots[t];
    if (slot < 0) return;
    const int64_t from = t * d.num_kv_heads + head, offset = slot % kKvBlock;
    const int64_t to = slot / kKvBlock * d.num_kv_heads + head;
    if (i < d.k_dim)
      static_cast<Bits*>(args.keys)[(to * d.k_dim + i) * kKvBlock + offset] =
          static_cast<const Bits*>(args.k)[from * d.k_dim + i];
    else
      static_cast<Bits*>(args.values)[(to * kKvBlock + offset) * d.v_dim + i - d.k_dim] =
          static_cast<const Bits*>(args.v)[from * d.v_dim + i - d.k_dim];
  });
}

void kv_append(const KvAppendCuda& args) {
  args.element_size == 2 ? append_as<uint16_t>(args) : append_as<uint32_t>(args);
}

void forward(const AttentionForwardCuda& args) {
  const AttentionDims& d = args.dims;
  const auto segments = static_cast<unsigned>(args.num_segments);
  const dim3 grid(blocks_for(args.most_rows * d.group(), kAttentionBlockRows) *
                      static_cast<unsigned>(args.side_by_side()),
                  static_cast<unsigned>(d.num_kv_heads), segments);
  if (MmaAttention::fits(args))
    launch("attention_forward", d.v_dim <= 128 ? mma_attention_kernel<4> : mma_attention_kernel<16>,
           {grid, MmaAttention::kThreads, MmaAttention::shared_bytes(args)}, args);
  else
    launch("attention_forward", args.is_bf16 ? forward_kernel<bf16> : forward_kernel<float>,
           {grid, kWarps * 32, static_cast<size_t>(kWarps * WarpMemory::floats(args) * 4)}, args);
  if (args.partials != nullptr)
    launch("attention_forward",
           args.is_bf16 ? merge_splits_kernel<bf16> : merge_splits_kernel<float>,
           {dim3(blocks_for(args.most_rows * d.num_heads * d.v_dim, kThreads), segments), kThreads},
           args);
}

const RegisterCudaOps<AttentionCuda> registered({kv_append, forward});

}  // namespace
}  // namespace moerl::kernels::cuda
