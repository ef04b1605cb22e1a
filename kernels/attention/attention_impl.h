#pragma once
#include "kernels/attention/attention.h"

namespace moerl::kernels {

/// Most query rows in one item of work.
inline constexpr int64_t kAttentionRows = 32;

/// Extents shared by all attention kernels. The rows of a (segment, key head) are numbered
/// token * group + head, where head counts the `group` query heads of that key head.
struct AttentionDims {
  int64_t num_heads = 0, num_kv_heads = 0, k_dim = 0, v_dim = 0;
  constexpr int64_t group() const { return num_heads / num_kv_heads; }
  constexpr int64_t k_padded() const { return (k_dim + 15) / 16 * 16; }
  constexpr int64_t v_padded() const { return (v_dim + 15) / 16 * 16; }
};

/// Rows [row_begin, row_end) of one key head of one segment.
struct AttentionItem {
  int64_t segment, kv_head, row_begin, row_end;
};

struct AttentionForwardArgs {
  AttentionDims dims;
  bool is_bf16 = false;
  float scale = 1;
  const void *q = nullptr, *keys = nullptr;
  const void* values = nullptr;  ///< null: the first v_dim of each key
  const AttentionSegment* segments = nullptr;
  void* o = nullptr;
  float* lse = nullptr;
  const AttentionItem* items = nullptr;
  int64_t num_items = 0;
  float* scratch = nullptr;  ///< [num_workers, scratch_floats(dims)]
  int64_t num_workers = 0;
};

template <Isa isa>
struct AttentionForwardCpu {
  static void run(ThreadPool& pool, const AttentionForwardArgs& args);
};
/// Scratch of one worker of the forward pass.
constexpr int64_t attention_forward_scratch(const AttentionDims& d) {
  return kAttentionRows * (d.k_dim + 2 * d.v_padded() + kKvBlock + 16 + 6) +
         kKvBlock * (d.k_dim + d.v_padded());
}

/// Everything that backward keeps of one (segment, key head): the keys and values as fp32 in the
/// two orders that the products want, and the sums of their gradients.
struct AttentionUnit {
  int64_t segment, kv_head;
  float* scratch;  ///< num_blocks * attention_unit_block_floats(dims)
};
constexpr int64_t attention_unit_block_floats(const AttentionDims& d) {
  return kKvBlock * (d.k_dim + d.v_dim + 2 * d.k_padded() + d.v_padded());
}
/// Scratch of one worker of the backward pass beside the unit's.
constexpr int64_t attention_backward_scratch(const AttentionDims& d) {
  return kAttentionRows * (2 * d.k_padded() + d.v_padded() + 2 * kKvBlock + 2);
}

struct AttentionBackwardArgs {
  AttentionDims dims;
  bool is_bf16 = false;
  float scale = 1;
  const void *dout = nullptr, *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
  const float* lse = nullptr;
  const AttentionSegment* segments = nullptr;
  void *dq = nullptr, *dk = nullptr, *dv = nullptr;
  AttentionUnit* units = nullptr;
  int64_t num_units = 0;
  /// Few long units: their key blocks and row tiles are shared out instead, each computing the
  /// probabilities that it needs; the bits are the same.
  bool split_units = false;
  float* unit_scratch = nullptr;  ///< not split: [num_workers, unit_floats]
  int64_t unit_floats = 0;
  float* scratch = nullptr;  ///< [num_workers, attention_backward_scratch(dims)]
  int64_t num_workers = 0;
};

template <Isa isa>
struct AttentionBackwardCpu {
  static void run(ThreadPool& pool, const AttentionBackwardArgs& args);
};

/// `count` consecutive rows of k and v that go to one block.
struct KvRun {
  int64_t row, block, offset, count;
};
struct KvAppendArgs {
  AttentionDims dims;
  int64_t element_size = 4;
  const void *k = nullptr, *v = nullptr;
  void *keys = nullptr, *values = nullptr;  ///< values may be null: part of the keys
  const KvRun* runs = nullptr;
  int64_t num_runs = 0;
};

template <Isa isa>
struct AttentionLayoutCpu {
  static void kv_append(ThreadPool& pool, const KvAppendArgs& args);
};

struct KvAppendCuda {
  AttentionDims dims;
  int64_t element_size, rows;
  const void *k, *v;
  const int64_t* slots;  ///< [rows]: block * kKvBlock + offset; negative: the row is not kept
  void *keys, *values;   ///< values may be null: part of the keys
};
struct AttentionForwardCuda {
  AttentionDims dims;
  bool is_bf16;
  float scale;
  int64_t rows;  ///< of the batch
  const void *q, *keys;
  const void* values;  ///< null: the first v_dim of each key
  const AttentionSegmentCuda* segments;
  int64_t num_segments, most_rows, most_keys;  ///< no segment has more
  void* o;
  float* lse;  ///< or null
  /// [splits of most_keys, rows * H, attention_partial_floats]: workspace of splits that are
  /// computed side by side; null: one after the other.
  float* partials = nullptr;

  constexpr int64_t num_splits() const { return (most_keys + kKvSplit - 1) / kKvSplit; }
  /// Blocks that share out the splits of the same rows.
  constexpr int64_t side_by_side() const { return partials == nullptr ? 1 : num_splits(); }
};
/// m, l and acc of a row.
constexpr int64_t attention_partial_floats(const AttentionDims& d) { return 2 + d.v_dim; }

/// Rows in a block of the forward kernels.
inline constexpr int64_t kAttentionBlockRows = 16;
/// Whether the splits of a row are computed side by side: where the rows alone are too few blocks
/// for a large GPU (two for each of the 132 multiprocessors of an H200), and the partial results
/// fit the workspace. No result depends on it.
constexpr bool attention_splits_side_by_side(const AttentionForwardCuda& args) {
  constexpr int64_t kFewBlocks = 264;
  const AttentionDims& d = args.dims;
  const int64_t tiles =
      (args.most_rows * d.group() + kAttentionBlockRows - 1) / kAttentionBlockRows;
  return args.num_splits() > 1 && tiles * d.num_kv_heads * args.num_segments < kFewBlocks &&
         args.num_splits() * args.rows * d.num_heads * attention_partial_floats(d) * 4 <=
             kAttentionWorkspaceBytes;
}
struct AttentionBackwardCuda {
  AttentionDims dims;
  bool is_bf16;
  float scale;
  int64_t rows;  ///< of the batch
  const void *dout, *q, *k, *v, *o;
  const float* lse;
  const AttentionSegmentCuda* segments;
  int64_t num_segments, most_rows;
  void *dq, *dk, *dv;
  float* delta;  ///< scratch [rows, H]
};

/// The numeric specification of attention.h on CUDA cores, with the bits of the CPU; but bf16 whose
/// widths are multiples of 32 (and Dv <= 512) runs on tensor cores, in the order of
/// attention_mma_cuda.h.
struct AttentionCuda {
  void (*kv_append)(const KvAppendCuda& args);
  void (*forward)(const AttentionForwardCuda& args);
};
/// The forward pass by Hopper's wgmma, on sm_90 and in the emulator, of what attention_fits_wgmma;
/// in the order of attention_mma_cuda.h.
struct AttentionWgmmaCuda {
  void (*forward)(const AttentionForwardCuda& args);
};
/// Rows of a tile of it, and the one width of values that it takes.
inline constexpr int64_t kAttentionWgmmaRows = 128, kAttentionWgmmaColumns = 128;
/// Fewer rows than a tile's are left to tiles of kAttentionBlockRows.
constexpr bool attention_fits_wgmma(const AttentionForwardCuda& args) {
  const AttentionDims& d = args.dims;
  return args.is_bf16 && args.values != nullptr && args.partials == nullptr &&
         (d.k_dim == 128 || d.k_dim == 192) && d.v_dim == kAttentionWgmmaColumns &&
         args.most_rows * d.group() >= kAttentionWgmmaRows;
}
/// On CUDA cores, the bits of the CPU; but bf16 whose widths are multiples of 32 (and Dk <= 576,
/// Dv <= 512) runs on tensor cores, in the order of attention_backward_mma_cuda.h.
struct AttentionGradCuda {
  void (*backward)(const AttentionBackwardCuda& args);
};

}  // namespace moerl::kernels
