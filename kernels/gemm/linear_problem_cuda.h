#pragma once
// Which tile of a product a block of threads computes. Included by *_cuda.cu only.

#include "kernels/gemm/linear_groups_cuda.h"
#include "kernels/gemm/linear_tile_cuda.h"

namespace moerl::kernels::cuda {

template <typename T>
__device__ const T* advance(const void* data, int64_t elements) {
  return static_cast<const T*>(data) + elements;
}

/// The tile of `rows` x `columns` of this block, y = x W^T or, with kTransposed, x W.
/// @return false if it has no rows.
template <typename T, bool kTransposed>
__device__ bool find_product(const LinearCudaProduct& args, int rows, int columns,
                             TileProblem& problem) {
  const RowTile tile = find_row_tile(args.groups, args.rows, blockIdx.y, rows);
  if (tile.group < 0) return false;
  const int64_t column = int64_t{blockIdx.x} * columns;
  const void* weight =
      args.groups.weights == nullptr ? args.weight : args.groups.weights[tile.group];
  const int64_t stride = kTransposed ? args.columns : args.depth;
  const int64_t c = tile.begin * args.columns + column;
  const bool is_bf16 = args.y_dtype == DType::kBF16;
  void* y = is_bf16 ? static_cast<void*>(static_cast<bf16*>(args.y) + c)
                    : static_cast<void*>(static_cast<float*>(args.y) + c);
  problem =
      TileProblem{.a = {advance<T>(args.x, tile.begin * args.depth), args.depth},
                  .b = {advance<T>(weight, kTransposed ? column : column * args.depth), stride},
                  .rows = tile.end - tile.begin,
                  .columns = args.columns - column,
                  .depth = args.depth,
                  .c = y,
                  .c_stride = args.columns,
                  .c_is_bf16 = is_bf16,
                  .finish = args.accumulate ? Finish::kAdd : Finish::kStore};
  return true;
}

/// The tile of dweight [N, K] += dy^T x, tokens as depth.
/// @return false if its group has no tokens.
template <typename T>
__device__ bool find_wgrad(const LinearCudaWgrad& args, int rows, int columns,
                           TileProblem& problem) {
  const int64_t row = int64_t{blockIdx.y} * rows, column = int64_t{blockIdx.x} * columns;
  const bool grouped = args.groups.count > 0;
  const int64_t rows_each = grouped ? args.groups.rows_each : args.tokens;
  const int64_t* offsets = args.groups.offsets;
  const int64_t begin = offsets ? offsets[blockIdx.z] : blockIdx.z * rows_each;
  const int64_t end = offsets ? offsets[blockIdx.z + 1] : begin + rows_each;
  if (begin == end) return false;
  float* dweight = grouped ? args.dweights[blockIdx.z] : args.dweight;
  problem = TileProblem{.a = {advance<T>(args.dy, begin * args.rows + row), args.rows},
                        .b = {advance<T>(args.x, begin * args.columns + column), args.columns},
                        .rows = args.rows - row,
                        .columns = args.columns - column,
                        .depth = end - begin,
                        .c = dweight + row * args.columns + column,
                        .c_stride = args.columns,
                        .c_is_bf16 = false,
                        .finish = Finish::kContinue};
  return true;
}

}  // namespace moerl::kernels::cuda
