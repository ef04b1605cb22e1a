#include "kernels/cuda/backend.h"
#include "kernels/gemm/linear_problem_cuda.h"

namespace moerl::kernels::cuda {
namespace {

template <int kRows, bool kTransposed>
__global__ void __launch_bounds__(kMmaThreads) mma_product_kernel(LinearCudaProduct args) {
  MOERL_SHARED_MEMORY(shared);
  TileProblem problem;
  if (find_product<bf16, kTransposed>(args, kRows, kMmaColumns, problem))
    MmaTile<kRows, false, kTransposed>::run(problem, shared);
}
template <bool kTransposed>
__global__ void __launch_bounds__(kFmaThreads) fma_product_kernel(LinearCudaProduct args) {
  MOERL_SHARED_MEMORY(shared);
  TileProblem problem;
  if (find_product<float, kTransposed>(args, kFmaExtent, kFmaExtent, problem))
    FmaTile<false, kTransposed>::run(problem, shared);
}

constexpr int kWgradExtent = 64;  // rows and columns of a tile
using MmaWgrad = MmaTile<kWgradExtent, true, true>;
using FmaWgrad = FmaTile<true, true>;

__global__ void __launch_bounds__(kMmaThreads) mma_wgrad_kernel(LinearCudaWgrad args) {
  MOERL_SHARED_MEMORY(shared);
  TileProblem problem;
  if (find_wgrad<bf16>(args, kWgradExtent, kWgradExtent, problem)) MmaWgrad::run(problem, shared);
}
__global__ void __launch_bounds__(kFmaThreads) fma_wgrad_kernel(LinearCudaWgrad args) {
  MOERL_SHARED_MEMORY(shared);
  TileProblem problem;
  if (find_wgrad<float>(args, kWgradExtent, kWgradExtent, problem)) FmaWgrad::run(problem, shared);
}

template <int kRows, bool kTransposed>
void launch_mma(const char* op, const LinearCudaProduct& args, dim3 grid) {
  launch(op, mma_product_kernel<kRows, kTransposed>,
         {grid, kMmaThreads, MmaTile<kRows, false, kTransposed>::kSharedBytes}, args);
}

template <bool kTransposed>
void launch_product(const char* op, const LinearCudaProduct& args) {
  if (args.rows == 0) return;
  auto grid = [&](int rows) {
    return dim3(blocks_for(args.columns, kMmaColumns), row_tiles(args.groups, args.rows, rows));
  };
  if (args.dtype == DType::kF32) {
    launch(op, fma_product_kernel<kTransposed>,
           {grid(kFmaExtent), kFmaThreads, FmaTile<false, kTransposed>::kSharedBytes}, args);
  } else if (has_few_rows(args.groups, args.rows)) {
    launch_mma<16, kTransposed>(op, args, grid(16));
  } else {
    launch_mma<64, kTransposed>(op, args, grid(64));
  }
}

void forward(const LinearCudaProduct& args) { launch_product<false>("linear_forward", args); }
void dgrad(const LinearCudaProduct& args) { launch_product<true>("linear_dgrad", args); }

void wgrad(const LinearCudaWgrad& args) {
  const dim3 grid(blocks_for(args.columns, kWgradExtent), blocks_for(args.rows, kWgradExtent),
                  args.groups.count == 0 ? 1u : static_cast<unsigned>(args.groups.count));
  if (args.dtype == DType::kF32)
    launch("linear_wgrad", fma_wgrad_kernel, {grid, kFmaThreads, FmaWgrad::kSharedBytes}, args);
  else
    launch("linear_wgrad", mma_wgrad_kernel, {grid, kMmaThreads, MmaWgrad::kSharedBytes}, args);
}

const RegisterCudaOps<LinearCuda> registered({forward, dgrad, wgrad});

}  // namespace
}  // namespace moerl::kernels::cuda
