#pragma once
#include <span>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// Positions in one block of keys: of the paged cache, and of the fixed walk over the keys.
inline constexpr int64_t kKvBlock = 32;

/// The key-value cache of one layer: `num_blocks` blocks of kKvBlock positions.
/// Layout (what attention_forward reads fastest; one for all instruction levels):
///   keys   [num_blocks, Hk, Dk, kKvBlock]  transposed: the lanes of a vector are positions
///   values [num_blocks, Hk, kKvBlock, Dv], or undefined: the value of a position is the first Dv
///   of
///          its key (absorbed MLA, whose latent is both), and is held once
struct PagedKv {
  Tensor keys, values;  ///< bf16 or fp32
  int64_t v_head_dim = 0;
};
enum class KvValues { kStored, kInKeys };
/// A cache whose contents are whatever was there. @param v_head_dim  at most k_head_dim if the
/// values are in the keys.
PagedKv make_paged_kv(int64_t num_blocks, int64_t num_kv_heads, int64_t k_head_dim,
                      int64_t v_head_dim, DType dtype, KvValues values = KvValues::kStored);

/// A run of consecutive positions of one sequence within a ragged batch.
struct AttentionSegment {
  int64_t first_row = 0;  ///< of the batch's rows
  int64_t num_rows = 0;   ///< positions [start, start + num_rows)
  int64_t start = 0;      ///< position of the first row; earlier ones are in the cache already
  std::span<const int32_t>
      block_table;  ///< block of positions [32 i, 32 i + 32), for all up to the last row
};

/// Writes k and v of every row of the segments to its place in the cache.
/// @param k [T, Hk, Dk], v [T, Hk, Dv] of the cache's type; v is not read if the cache's values are
/// in the keys. Segments must not share a position of a block.
void kv_append(ExecContext& ctx, const Tensor& k, const Tensor& v,
               std::span<const AttentionSegment> segments, PagedKv& cache);
/// Copies a block to another (copy on write of a shared, partly filled block).
void kv_copy_block(ExecContext& ctx, PagedKv& cache, int64_t from, int64_t to);

/// Causal softmax attention over the cache, ragged and paged; D_k and D_v may differ. H is a
/// multiple of the key heads Hk: 1 (MQA; absorbed MLA), H (MHA) or between; head h reads key head
/// h / (H / Hk).
///
/// Numeric specification, per (row, head), all fp32 (bf16 is converted exactly): key blocks of
/// kKvBlock positions aligned at 0, ascending, up to the row's own position and no further.
///   s_j   = scale * (chain of fused multiply-adds over d ascending, from 0)
///   m'    = max(m, max_j s_j),  f = exp(m - m'),  p_j = exp(s_j - m')
///   l     : sixteen partial sums; lane i becomes (l_i f + p_i) + p_{16+i}, not fused
///   acc   : acc f, then a fused multiply-add p_j v_j for each key of the block, ascending
/// and at the end o = acc / l and lse = m + log l with l the lane tree of cpu/simd.h; o rounded
/// once. Keys behind the row's position take no part: their slots may be uninitialised. Prefill,
/// decode and training run this one routine: a row's bits do not depend on how it is batched, on
/// the physical blocks or on the number of threads.
///
/// @param q [T, H, Dk], of the cache's type. @param o out [T, H, Dv], of q's type. @param lse out
/// [T, H] fp32 or null. Rows outside of all segments are left as they are.
/// The segments' own keys must have been appended before.
void attention_forward(ExecContext& ctx, const Tensor& q, const PagedKv& cache,
                       std::span<const AttentionSegment> segments, float scale, Tensor& o,
                       Tensor* lse);

/// Backward for whole sequences (every segment starts at position 0). With P = exp(s - lse),
/// delta = rowsum(do * o), dS = scale * P * (do v^T - delta):
///   dq = dS k, dk = dS^T q, dv = P^T do       (Dao et al. 2022, arXiv:2205.14135, appendix B)
/// Every element is one chain of fused multiply-adds in fp32, rounded once: dq over keys ascending;
/// dk and dv over rows ascending, that is positions and within one the query heads that share the
/// key head. So a sequence's gradients depend neither on the batch nor on the number of threads.
/// @param q, k, v  [T, H, Dk], [T, Hk, Dk], [T, Hk, Dv] as in the forward pass, all of one type.
/// @param o, lse  what attention_forward returned. @param dout [T, H, Dv].
/// @param dq, dk, dv out, overwritten; rows outside of all segments are left as they are.
void attention_backward(ExecContext& ctx, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& o, const Tensor& lse,
                        std::span<const AttentionSegment> segments, float scale, Tensor& dq,
                        Tensor& dk, Tensor& dv);

/// [T, H, W] -> [H, T, W] and back: rows grouped by head for grouped_linear (absorbed MLA).
void heads_first(ExecContext& ctx, const Tensor& x, Tensor& y);
void tokens_first(ExecContext& ctx, const Tensor& x, Tensor& y);

}  // namespace moerl::kernels
