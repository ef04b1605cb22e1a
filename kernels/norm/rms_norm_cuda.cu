#include "kernels/cuda/backend.h"
#include "kernels/cuda/rows.h"
#include "kernels/norm/rms_norm_impl.h"

namespace moerl::kernels::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(kRowThreads) forward_kernel(RmsNormForwardArgs args) {
  MOERL_SHARED_MEMORY(shared);
  float* scratch = reinterpret_cast<float*>(shared);
  const int64_t dim = args.dim, t = blockIdx.x;
  T* x = static_cast<T*>(args.x) + t * dim;
  T* y = static_cast<T*>(args.y) + t * dim;
  const T* delta = args.delta == nullptr ? nullptr : static_cast<const T*>(args.delta) + t * dim;
  const float sum = sum_row(dim, scratch, [&](float acc, int64_t d) {
    if (delta != nullptr) store(x + d, load(x + d) + load(delta + d));
    const float rounded = load(x + d);
    return fma(rounded, rounded, acc);
  });
  const float rstd = 1.0f / sqrt(sum / static_cast<float>(dim) + args.eps);
  if (args.rstd != nullptr && threadIdx.x == 0) args.rstd[t] = rstd;
  // Each thread reads only what it wrote itself.
  for (int64_t d = threadIdx.x; d < dim; d += kRowThreads)
    store(y + d, load(x + d) * rstd * args.weight[d]);
}

template <typename T>
__global__ void __launch_bounds__(kRowThreads) dx_kernel(RmsNormBackwardArgs args) {
  MOERL_SHARED_MEMORY(shared);
  float* scratch = reinterpret_cast<float*>(shared);
  const int64_t dim = args.dim, t = blockIdx.x;
  const T* dy = static_cast<const T*>(args.dy) + t * dim;
  const T* x = static_cast<const T*>(args.x) + t * dim;
  T* dx = static_cast<T*>(args.dx) + t * dim;
  const float rstd = args.rstd[t];
  const float sum = sum_row(dim, scratch, [&](float acc, int64_t d) {
    return fma(load(dy + d) * args.weight[d], load(x + d) * rstd, acc);
  });
  const float minus_mean = -(sum / static_cast<float>(dim));
  for (int64_t d = threadIdx.x; d < dim; d += kRowThreads) {
    const float g = load(dy + d) * args.weight[d];
    float down = rstd * fma(load(x + d) * rstd, minus_mean, g);
    if (args.accumulate) down = load(dx + d) + down;
    store(dx + d, down);
  }
}

/// A thread a column and block of tokens.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    dweight_kernel(RmsNormBackwardArgs args, int64_t rows, float* partials) {
  const int64_t d = int64_t{blockIdx.x} * kThreads + threadIdx.x,
                begin = int64_t{blockIdx.y} * kRmsNormBackwardRows;
  if (d >= args.dim) return;
  const T* dy = static_cast<const T*>(args.dy);
  const T* x = static_cast<const T*>(args.x);
  const int64_t end = begin + kRmsNormBackwardRows < rows ? begin + kRmsNormBackwardRows : rows;
  float sum = 0.0f;
  for (int64_t t = begin; t < end; ++t)
    sum = fma(load(dy + t * args.dim + d), load(x + t * args.dim + d) * args.rstd[t], sum);
  partials[blockIdx.y * args.dim + d] = sum;
}

void forward(const RmsNormForwardArgs& args, int64_t rows) {
  const LaunchShape shape{static_cast<unsigned>(rows), kRowThreads, kRowScratchBytes};
  launch("rms_norm", args.dtype == DType::kBF16 ? forward_kernel<bf16> : forward_kernel<float>,
         shape, args);
}

void backward(const RmsNormBackwardArgs& args, int64_t rows, float* partials, float* dweight) {
  const char* op = "rms_norm_backward";
  const bool is_bf16 = args.dtype == DType::kBF16;
  const int64_t dim = args.dim, blocks = blocks_for(rows, kRmsNormBackwardRows);
  if (blocks == 0) return;
  // Before dx, which may be the memory of dy.
  launch(op, is_bf16 ? dweight_kernel<bf16> : dweight_kernel<float>,
         {dim3(blocks_for(dim, kThreads), static_cast<unsigned>(blocks)), kThreads}, args, rows,
         partials);
  launch(op, is_bf16 ? dx_kernel<bf16> : dx_kernel<float>,
         {static_cast<unsigned>(rows), kRowThreads, kRowScratchBytes}, args);
  launch_each(op, dim, [=] __device__(int64_t d) {
    float sum = partials[d];
    for (int64_t b = 1; b < blocks; ++b) sum = sum + partials[b * dim + d];
    dweight[d] = dweight[d] + sum;
  });
}

const RegisterCudaOps<RmsNormCuda> registered({forward, backward});

}  // namespace
}  // namespace moerl::kernels::cuda
