#include "kernels/cuda/backend.h"
#include "kernels/gemm/linear_groups_cuda.h"
#include "kernels/gemm/linear_tile_cuda.h"

namespace moerl::kernels::cuda {
namespace {

template <typename T>
__device__ const T* advance(const void* data, int64_t elements) {
  return static_cast<const T*>(data) + elements;
}

/// y = x W^T or, with kTransposed, x W.
template <typename T, typename Tile, int kRows, bool kTransposed>
__device__ void run_product(const LinearCudaProduct& args, unsigned char* shared) {
  constexpr int kColumns = 64;
  const RowTile tile = find_row_tile(args.groups, args.rows, blockIdx.y, kRows);
  if (tile.group < 0) return;
  const int64_t column = int64_t{blockIdx.x} * kColumns;
  const void* weight =
      args.groups.weights == nullptr ? args.weight : args.groups.weights[tile.group];
  const int64_t stride = kTransposed ? args.columns : args.depth;
  const int64_t c = tile.begin * args.columns + column;
  const bool is_bf16 = args.y_dtype == DType::kBF16;
  void* y = is_bf16 ? static_cast<void*>(static_cast<bf16*>(args.y) + c)
                    : static_cast<void*>(static_cast<float*>(args.y) + c);
  Tile::run({.a = {advance<T>(args.x, tile.begin * args.depth), args.depth},
             .b = {advance<T>(weight, kTransposed ? column : column * args.depth), stride},
             .rows = tile.end - tile.begin,
             .columns = args.columns - column,
             .depth = args.depth,
             .c = y,
             .c_stride = args.columns,
             .c_is_bf16 = is_bf16,
             .finish = args.accumulate ? Finish::kAdd : Finish::kStore},
            shared);
}

template <int kRows, bool kTransposed>
__global__ void __launch_bounds__(kMmaThreads) mma_product_kernel(LinearCudaProduct args) {
  MOERL_SHARED_MEMORY(shared);
  run_product<bf16, MmaTile<kRows, false, kTransposed>, kRows, kTransposed>(args, shared);
}
template <bool kTransposed>
__global__ void __launch_bounds__(kFmaThreads) fma_product_kernel(LinearCudaProduct args) {
  MOERL_SHARED_MEMORY(shared);
  run_product<float, FmaTile<false, kTransposed>, kFmaExtent, kTransposed>(args, shared);
}

/// dweight [N, K] += dy^T x: a tile of 64 x 64, tokens as depth.
template <typename T, typename Tile>
__device__ void run_wgrad(const LinearCudaWgrad& args, unsigned char* shared) {
  const int64_t row = int64_t{blockIdx.y} * 64, column = int64_t{blockIdx.x} * 64;
  const bool grouped = args.groups.count > 0;
  const int64_t rows_each = grouped ? args.groups.rows_each : args.tokens;
  const int64_t* offsets = args.groups.offsets;
  const int64_t begin = offsets ? offsets[blockIdx.z] : blockIdx.z * rows_each;
  const int64_t end = offsets ? offsets[blockIdx.z + 1] : begin + rows_each;
  if (begin == end) return;
  float* dweight = grouped ? args.dweights[blockIdx.z] : args.dweight;
  Tile::run({.a = {advance<T>(args.dy, begin * args.rows + row), args.rows},
             .b = {advance<T>(args.x, begin * args.columns + column), args.columns},
             .rows = args.rows - row,
             .columns = args.columns - column,
             .depth = end - begin,
             .c = dweight + row * args.columns + column,
             .c_stride = args.columns,
             .c_is_bf16 = false,
             .finish = Finish::kContinue},
            shared);
}

using MmaWgrad = MmaTile<64, true, true>;
using FmaWgrad = FmaTile<true, true>;

__global__ void __launch_bounds__(kMmaThreads) mma_wgrad_kernel(LinearCudaWgrad args) {
  MOERL_SHARED_MEMORY(shared);
  run_wgrad<bf16, MmaWgrad>(args, shared);
}
__global__ void __launch_bounds__(kFmaThreads) fma_wgrad_kernel(LinearCudaWgrad args) {
  MOERL_SHARED_MEMORY(shared);
  run_wgrad<float, FmaWgrad>(args, shared);
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
    return dim3(blocks_for(args.columns, 64), row_tiles(args.groups, args.rows, rows));
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
  const dim3 grid(blocks_for(args.columns, 64), blocks_for(args.rows, 64),
                  args.groups.count == 0 ? 1u : static_cast<unsigned>(args.groups.count));
  if (args.dtype == DType::kF32)
    launch("linear_wgrad", fma_wgrad_kernel, {grid, kFmaThreads, FmaWgrad::kSharedBytes}, args);
  else
    launch("linear_wgrad", mma_wgrad_kernel, {grid, kMmaThreads, MmaWgrad::kSharedBytes}, args);
}

const RegisterCudaOps<LinearCuda> registered({forward, dgrad, wgrad});

}  // namespace
}  // namespace moerl::kernels::cuda
