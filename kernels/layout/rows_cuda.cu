#include "kernels/cuda/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/layout/rows_impl.h"

namespace moerl::kernels::cuda {
namespace {

/// In words of two bytes: the width of a row may be odd.
void gather(const void* x, const int32_t* rows, int64_t count, int64_t bytes, void* y) {
  const uint16_t* from = static_cast<const uint16_t*>(x);
  uint16_t* to = static_cast<uint16_t*>(y);
  const int64_t width = bytes / 2;
  launch_each("gather_rows", count * width,
              [=] __device__(int64_t i) { to[i] = from[rows[i / width] * width + i % width]; });
}

void scatter(const void* y, const int32_t* rows, int64_t count, int64_t bytes, void* x) {
  const uint16_t* from = static_cast<const uint16_t*>(y);
  uint16_t* to = static_cast<uint16_t*>(x);
  const int64_t width = bytes / 2;
  launch_each("scatter_rows", count * width,
              [=] __device__(int64_t i) { to[rows[i / width] * width + i % width] = from[i]; });
}

const RegisterCudaOps<RowsCuda> registered({gather, scatter});

}  // namespace
}  // namespace moerl::kernels::cuda
