#include "kernels/cuda/backend.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/select.h"
#include "kernels/moe/permute_impl.h"

namespace moerl::kernels::cuda {
namespace {

/// A block an expert: its first row is the number of slots of lower experts, and its slots follow
/// in their order.
__global__ void __launch_bounds__(kSelectThreads)
    sort_kernel(const int32_t* topk_idx, int64_t slots, int64_t* offsets, int32_t* slot_of_row,
                int32_t* row_of_slot) {
  MOERL_SHARED_MEMORY(memory);
  const Selection selection(memory);
  const int32_t expert = static_cast<int32_t>(blockIdx.x);
  int64_t row = 0;
  for (int64_t begin = 0; begin < slots; begin += kSelectThreads) {
    const int64_t slot = begin + threadIdx.x;
    row += __syncthreads_count(slot < slots && topk_idx[slot] < expert);
  }
  if (threadIdx.x == 0) {
    offsets[expert] = row;
    if (blockIdx.x + 1 == gridDim.x) offsets[expert + 1] = slots;
  }
  for (int64_t begin = 0; begin < slots; begin += kSelectThreads) {
    const int64_t slot = begin + threadIdx.x;
    const bool mine = slot < slots && topk_idx[slot] == expert;
    const int64_t to = row + selection.place(mine);
    if (mine) {
      slot_of_row[to] = static_cast<int32_t>(slot);
      row_of_slot[slot] = static_cast<int32_t>(to);
    }
    row += selection.total();
    __syncthreads();  // before the next counts
  }
}

template <typename T>
void expand_as(const PermuteArgs& args, int64_t tokens) {
  const int64_t per_token = args.num_topk * args.dim;
  launch_each("expand_forward", tokens * per_token, [=] __device__(int64_t i) {
    const int64_t slot = i / args.dim, d = i % args.dim;
    static_cast<T*>(args.row_out)[args.row_of_slot[slot] * args.dim + d] =
        static_cast<const T*>(args.by_token)[i / per_token * args.dim + d];
  });
}

template <typename T>
void expand_backward_as(const PermuteArgs& args, int64_t tokens) {
  launch_each("expand_backward", tokens * args.dim, [=] __device__(int64_t i) {
    const int32_t* row = args.row_of_slot + i / args.dim * args.num_topk;
    const T* dy = static_cast<const T*>(args.by_row) + i % args.dim;
    T* dx = static_cast<T*>(args.token_out) + i;
    float sum = load(dy + row[0] * args.dim);
    for (int64_t k = 1; k < args.num_topk; ++k) sum = sum + load(dy + row[k] * args.dim);
    if (args.accumulate) sum = load(dx) + sum;
    store(dx, sum);
  });
}

template <typename T>
void reduce_as(const PermuteArgs& args, int64_t tokens) {
  launch_each("reduce_forward", tokens * args.dim, [=] __device__(int64_t i) {
    const int64_t first = i / args.dim * args.num_topk;
    const T* x = static_cast<const T*>(args.by_row) + i % args.dim;
    float sum = args.shared == nullptr ? 0.0f : load(static_cast<const T*>(args.shared) + i);
    for (int64_t slot = first; slot < first + args.num_topk; ++slot)
      sum = fma(args.weights[slot], load(x + args.row_of_slot[slot] * args.dim), sum);
    store(static_cast<T*>(args.token_out) + i, sum);
  });
}

/// A team a slot.
template <typename T>
__global__ void __launch_bounds__(kRowThreads) reduce_backward_kernel(PermuteArgs args) {
  MOERL_SHARED_MEMORY(shared);
  const int64_t slot = blockIdx.x, row = args.row_of_slot[slot];
  const T* dy = static_cast<const T*>(args.by_token) + slot / args.num_topk * args.dim;
  const T* x = static_cast<const T*>(args.by_row) + row * args.dim;
  T* dx = static_cast<T*>(args.row_out) + row * args.dim;
  const float weight = args.weights[slot];
  const float sum = sum_row(args.dim, reinterpret_cast<float*>(shared), [&](float acc, int64_t d) {
    const float g = load(dy + d);
    acc = fma(g, load(x + d), acc);
    store(dx + d, weight * g);
    return acc;
  });
  if (threadIdx.x == 0) args.dweights[slot] = sum;
}

void sort(const int32_t* topk_idx, int64_t slots, int64_t num_experts, int64_t* offsets,
          int32_t* slot_of_row, int32_t* row_of_slot) {
  launch("sort_by_expert", sort_kernel,
         {static_cast<unsigned>(num_experts), kSelectThreads, Selection::kSharedBytes}, topk_idx,
         slots, offsets, slot_of_row, row_of_slot);
}

void expand(const PermuteArgs& args, int64_t tokens) {
  args.is_bf16 ? expand_as<bf16>(args, tokens) : expand_as<float>(args, tokens);
}
void expand_backward(const PermuteArgs& args, int64_t tokens) {
  args.is_bf16 ? expand_backward_as<bf16>(args, tokens) : expand_backward_as<float>(args, tokens);
}
void reduce(const PermuteArgs& args, int64_t tokens) {
  args.is_bf16 ? reduce_as<bf16>(args, tokens) : reduce_as<float>(args, tokens);
}
void reduce_backward(const PermuteArgs& args, int64_t tokens) {
  launch("reduce_backward",
         args.is_bf16 ? reduce_backward_kernel<bf16> : reduce_backward_kernel<float>,
         {static_cast<unsigned>(tokens * args.num_topk), kRowThreads, kRowScratchBytes}, args);
}

const RegisterCudaOps<PermuteCuda> registered({sort, expand, expand_backward, reduce,
                                               reduce_backward});

}  // namespace
}  // namespace moerl::kernels::cuda
