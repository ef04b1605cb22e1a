#include "kernels/cuda/backend.h"
#include "kernels/gemm/linear_problem_cuda.h"
#include "kernels/gemm/linear_wgmma_cuda.h"

namespace moerl::kernels::cuda {
namespace {

template <int kColumns, bool kTransposed>
__global__ void __launch_bounds__(kWgmmaThreads, 1) wgmma_product_kernel(LinearCudaProduct args) {
  MOERL_SHARED_MEMORY(shared);
  TileProblem problem;
  if (find_product<bf16, kTransposed>(args, kWgmmaRows, kColumns, problem))
    WgmmaTile<kColumns, false, kTransposed>::run(problem, shared);
}

template <int kColumns>
__global__ void __launch_bounds__(kWgmmaThreads, 1) wgmma_wgrad_kernel(LinearCudaWgrad args) {
  MOERL_SHARED_MEMORY(shared);
  TileProblem problem;
  if (find_wgrad<bf16>(args, kWgmmaRows, kColumns, problem))
    WgmmaTile<kColumns, true, true>::run(problem, shared);
}

/// f<tile_columns>().
template <typename F>
void dispatch_columns(int tile_columns, const F& f) {
  if (tile_columns == 256)
    f.template operator()<256>();
  else
    f.template operator()<128>();
}

template <bool kTransposed>
void launch_product(const char* op, const LinearCudaProduct& args, int tile_columns) {
  const dim3 grid(blocks_for(args.columns, tile_columns),
                  row_tiles(args.groups, args.rows, kWgmmaRows));
  dispatch_columns(tile_columns, [&]<int kColumns>() {
    launch(op, wgmma_product_kernel<kColumns, kTransposed>,
           {grid, kWgmmaThreads, WgmmaTile<kColumns, false, kTransposed>::kSharedBytes}, args);
  });
}

void forward(const LinearCudaProduct& args, int tile_columns) {
  launch_product<false>("linear_forward", args, tile_columns);
}
void dgrad(const LinearCudaProduct& args, int tile_columns) {
  launch_product<true>("linear_dgrad", args, tile_columns);
}

void wgrad(const LinearCudaWgrad& args, int tile_columns) {
  const dim3 grid(blocks_for(args.columns, tile_columns), blocks_for(args.rows, kWgmmaRows),
                  args.groups.count == 0 ? 1u : static_cast<unsigned>(args.groups.count));
  dispatch_columns(tile_columns, [&]<int kColumns>() {
    launch("linear_wgrad", wgmma_wgrad_kernel<kColumns>,
           {grid, kWgmmaThreads, WgmmaTile<kColumns, true, true>::kSharedBytes}, args);
  });
}

const RegisterCudaOps<LinearWgmmaCuda> registered({forward, dgrad, wgrad});

}  // namespace
}  // namespace moerl::kernels::cuda
