#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"
#include "kernels/cuda/select.h"
#include "kernels/embedding/embedding_impl.h"

namespace moerl::kernels::cuda {
namespace {

template <typename From, typename To>
void forward_as(const void* table, int64_t dim, const int32_t* ids, int64_t count, void* y) {
  const From* from = static_cast<const From*>(table);
  To* to = static_cast<To*>(y);
  launch_each("embedding", count * dim, [=] __device__(int64_t i) {
    store(to + i, load(from + ids[i / dim] * dim + i % dim));
  });
}

/// A block a token. The first token of an id adds up all tokens of that id, ascending; the blocks
/// of the others have nothing to do. No sort, no atomics: the order is that of the tokens.
template <typename T>
__global__ void __launch_bounds__(kSelectThreads)
    backward_kernel(const T* dy, int64_t dim, const int32_t* ids, int64_t count, float* dtable) {
  MOERL_SHARED_MEMORY(memory);
  const Selection selection(memory);
  const int64_t token = blockIdx.x;
  const int32_t id = ids[token];
  int earlier = 0;
  for (int64_t t = threadIdx.x; t < token; t += kSelectThreads) earlier |= ids[t] == id ? 1 : 0;
  if (__syncthreads_or(earlier) != 0) return;
  float* row = dtable + id * dim;
  for (int64_t begin = token; begin < count; begin += kSelectThreads) {
    const int64_t t = begin + threadIdx.x;
    const int found = selection.select(t < count && ids[t] == id);
    for (int64_t d = threadIdx.x; d < dim; d += kSelectThreads) {
      float sum = row[d];
      for (int i = 0; i < found; ++i)
        sum = sum + load(dy + (begin + selection.chosen(i)) * dim + d);
      row[d] = sum;
    }
    __syncthreads();  // before the next selection
  }
}

void forward(DType table_dtype, const void* table, int64_t dim, const int32_t* ids, int64_t count,
             DType dtype, void* y) {
  if (table_dtype == DType::kBF16)
    forward_as<bf16, bf16>(table, dim, ids, count, y);
  else if (dtype == DType::kBF16)
    forward_as<float, bf16>(table, dim, ids, count, y);
  else
    forward_as<float, float>(table, dim, ids, count, y);
}

void backward(DType dtype, const void* dy, int64_t dim, const int32_t* ids, int64_t count,
              float* dtable) {
  const LaunchShape shape{static_cast<unsigned>(count), kSelectThreads, Selection::kSharedBytes};
  if (dtype == DType::kBF16)
    launch("embedding_backward", backward_kernel<bf16>, shape, static_cast<const bf16*>(dy), dim,
           ids, count, dtable);
  else
    launch("embedding_backward", backward_kernel<float>, shape, static_cast<const float*>(dy), dim,
           ids, count, dtable);
}

const RegisterCudaOps<EmbeddingCuda> registered({forward, backward});

}  // namespace
}  // namespace moerl::kernels::cuda
