#include "kernels/attention/attention_wgmma.h"

#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/wgmma_proof.h"
#include "kernels/gemm/product_probe.h"

namespace moerl::kernels {
namespace {

/// A chunk of a prompt: two heads of one key head, rows that are no whole tiles, on both sides of a
/// border between splits.
constexpr int64_t kHeads = 2, kKeyDim = 128, kRows = 101, kStart = kKvSplit - 40;

}  // namespace

bool attention_agrees_on_wgmma(ExecContext& ctx) {
  constexpr int64_t kBlocks = (kStart + kRows + kKvBlock - 1) / kKvBlock;
  const PagedKv cache = make_paged_kv(kBlocks, 1, kKeyDim, kAttentionWgmmaColumns, DType::kBF16,
                                      KvValues::kStored, Device::kCuda);
  const Tensor q = ctx.empty({kRows, kHeads, kKeyDim}, DType::kBF16);
  const auto randomize = [](const Tensor& tensor, int64_t width, int centre, uint64_t stream) {
    const Tensor rows = tensor.view({tensor.numel() / width, width});
    randomize_rows(rows, rows.dim(0), {centre, 3}, 0, stream);
  };
  randomize(q, kKeyDim, -4, 0);
  randomize(cache.keys, kKvBlock, 0, 1);
  randomize(cache.values, kAttentionWgmmaColumns, 0, 2);
  std::vector<int32_t> table(kBlocks);
  std::iota(table.begin(), table.end(), 0);
  const std::vector<AttentionSegment> segments = {{0, kRows, kStart, table}};
  const SegmentList list(segments);
  const auto same = [](const Tensor& a, const Tensor& b) {
    const Tensor left = a.to(Device::kCpu), right = b.to(Device::kCpu);
    return std::memcmp(left.raw(), right.raw(), static_cast<size_t>(left.bytes())) == 0;
  };
  Tensor o[2], lse[2];
  for (int i = 0; i < 2; ++i) {
    o[i] = ctx.empty({kRows, kHeads, kAttentionWgmmaColumns}, DType::kBF16);
    lse[i] = ctx.empty({kRows, kHeads}, DType::kF32);
    const AttentionForwardCuda args{.dims = {kHeads, 1, kKeyDim, kAttentionWgmmaColumns},
                                    .is_bf16 = true,
                                    .scale = 0.125f,
                                    .rows = kRows,
                                    .q = q.raw(Device::kCuda),
                                    .keys = cache.keys.raw(Device::kCuda),
                                    .values = cache.values.raw(Device::kCuda),
                                    .segments = list.on_device(ctx),
                                    .num_segments = 1,
                                    .most_rows = kRows,
                                    .most_keys = kStart + kRows,
                                    .o = o[i].raw(Device::kCuda),
                                    .lse = lse[i].data<float>(Device::kCuda)};
    i == 0 ? cuda_ops<AttentionCuda>().forward(args) : cuda_ops<AttentionWgmmaCuda>().forward(args);
  }
  return same(o[0], o[1]) && same(lse[0], lse[1]);
}

bool run_attention_on_wgmma(ExecContext& ctx, const AttentionForwardCuda& args) {
  static auto* proof =
      new WgmmaProof(attention_agrees_on_wgmma);  // never destroyed: threads may outlive it
  if (!attention_fits_wgmma(args) || !proof->holds(ctx)) return false;
  cuda_ops<AttentionWgmmaCuda>().forward(args);
  return true;
}

}  // namespace moerl::kernels
