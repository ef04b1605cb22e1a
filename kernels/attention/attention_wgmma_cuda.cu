#include "kernels/attention/attention_wgmma_cuda.h"
#include "kernels/cuda/backend.h"

namespace moerl::kernels::cuda {
namespace {

template <int kBoxes>
void launch_tiles(const AttentionForwardCuda& args) {
  using Tile = WgmmaAttention<kBoxes>;
  const dim3 grid(blocks_for(args.most_rows * args.dims.group(), Tile::kRows),
                  static_cast<unsigned>(args.dims.num_kv_heads),
                  static_cast<unsigned>(args.num_segments));
  launch("attention_forward", wgmma_attention_kernel<kBoxes>,
         {grid, Tile::kThreads, Tile::shared_bytes(args)}, args);
}

void forward(const AttentionForwardCuda& args) {
  args.dims.k_dim == 128 ? launch_tiles<2>(args) : launch_tiles<3>(args);
}

const RegisterCudaOps<AttentionWgmmaCuda> registered({forward});

}  // namespace
}  // namespace moerl::kernels::cuda
