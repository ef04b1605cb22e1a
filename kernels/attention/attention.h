#pragma once
#include "kernels/attention/segment_list.h"

namespace moerl::kernels {

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
                      int64_t v_head_dim, DType dtype, KvValues values = KvValues::kStored,
                      Device device = Device::kCpu);

/// Writes k and v of every row of the segments to its place in the cache.
/// @param k [T, Hk, Dk], v [T, Hk, Dv] of the cache's type; v is not read if the cache's values are
/// in the keys. Segments must not share a position of a block.
void kv_append(ExecContext& ctx, const Tensor& k, const Tensor& v, const SegmentList& segments,
               PagedKv& cache);
/// Copies a block to another (copy on write of a shared, partly filled block).
void kv_copy_block(ExecContext& ctx, PagedKv& cache, int64_t from, int64_t to);

/// On kCuda a pass over keys of more than one split takes at most so much beside its results.
inline constexpr int64_t kAttentionWorkspaceBytes = int64_t{128} << 20;

/// Causal softmax attention over the cache, ragged and paged; D_k and D_v may differ. H is a
/// multiple of the key heads Hk: 1 (MQA; absorbed MLA), H (MHA) or between; head h reads key head
/// h / (H / Hk).
///
/// Numeric specification, per (row, head), all fp32 (bf16 is converted exactly). The keys up to the
/// row's own position and no further are cut into splits of kKvSplit positions, aligned at 0. Each
/// split starts anew, m = -inf, l = 0, acc = 0, and takes its key blocks of kKvBlock positions,
/// ascending:
///   s_j   = scale * (chain of fused multiply-adds over d ascending, from 0)
///   m'    = max(m, max_j s_j),  f = exp(m - m'),  p_j = exp(s_j - m')
///   l     : sixteen partial sums; lane i becomes (l_i f + p_i) + p_{16+i}, not fused
///   acc   : acc f, then a fused multiply-add p_j v_j for each key of the block, ascending
/// and at its end l is the lane tree of cpu/simd.h. The splits are merged, ascending: what the
/// first has, and then with (n, r, b) for the (m, l, acc) of the next
///   m'    = max(m, n),  f = exp(m - m'),  g = exp(n - m')
///   l     = fma(r, g, l f),  acc = fma(b, g, acc f)
/// and at the end o = acc / l and lse = m + log l; o rounded once. Keys behind the row's position
/// take no part: their slots may be uninitialised. Prefill, decode and training have this one
/// specification: a row's bits do not depend on how it is batched, on the physical blocks, on the
/// number of threads, or on whether its splits are computed one after the other or side by side.
///
/// @param q [T, H, Dk], of the cache's type. @param o out [T, H, Dv], of q's type. @param lse out
/// [T, H] fp32 or null. Rows outside of all segments are left as they are.
/// The segments' own keys must have been appended before.
void attention_forward(ExecContext& ctx, const Tensor& q, const PagedKv& cache,
                       const SegmentList& segments, float scale, Tensor& o, Tensor* lse);

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
                        const SegmentList& segments, float scale, Tensor& dq, Tensor& dk,
                        Tensor& dv);

}  // namespace moerl::kernels
