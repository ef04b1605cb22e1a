#include "kernels/norm/elementwise.h"

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/norm/elementwise_impl.h"

namespace moerl::kernels {
void add_inplace(ExecContext& ctx, const Tensor& src, Tensor& dst) {
  check(src.defined(), "add_inplace: src is undefined");
  check_f32_or_bf16("add_inplace", "src", src);
  check_shape("add_inplace", "dst", dst, src.shape());
  check_dtype("add_inplace", "dst", dst, src.dtype());
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, src.numel(), rows_per_turn(1), [&](int64_t begin, int64_t end) {
          ElementwiseCpu<isa>::add(src.dtype(), src.raw(), dst.raw(), begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<ElementwiseCuda>().add(src.dtype(), src.raw(Device::kCuda),
                                             dst.raw(Device::kCuda), src.numel());
  }
}

void cast(ExecContext& ctx, const Tensor& src, Tensor& dst) {
  check(src.defined(), "cast: src is undefined");
  check(dst.defined(), "cast: dst is undefined");
  check_f32_or_bf16("cast", "src", src);
  check_f32_or_bf16("cast", "dst", dst);
  check(src.numel() == dst.numel(), "cast: dst is ", dst.shape(), ", expected as many elements as ",
        src.shape());
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, src.numel(), rows_per_turn(1), [&](int64_t begin, int64_t end) {
          ElementwiseCpu<isa>::cast(src.dtype(), src.raw(), dst.dtype(), dst.raw(), begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<ElementwiseCuda>().cast(src.dtype(), src.raw(Device::kCuda), dst.dtype(),
                                              dst.raw(Device::kCuda), src.numel());
  }
}

void fill_rows(ExecContext& ctx, const ReadRows& read, Tensor& dst) {
  check_rank("fill_rows", "dst", dst, 2);
  check_f32_or_bf16("fill_rows", "dst", dst);
  const int64_t rows = dst.dim(0), columns = dst.dim(1);
  const auto read_into = [&](int64_t begin, int64_t end, void* out) {
    const int64_t row_bytes = columns * dtype_size(dst.dtype());
    parallel_rows(ctx, end - begin, rows_per_turn(columns), [&](int64_t first, int64_t last) {
      read(begin + first, begin + last, dst.dtype(),
           static_cast<std::byte*>(out) + first * row_bytes);
    });
  };
  if (dst.device() == Device::kCpu) return read_into(0, rows, dst.raw());

  constexpr int64_t kPieceElements = 1 << 20;
  const int64_t piece_rows = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, columns));
  for (int64_t begin = 0; begin < rows; begin += piece_rows) {
    const int64_t end = std::min(rows, begin + piece_rows);
    Tensor piece = Tensor::empty({end - begin, columns}, dst.dtype());
    read_into(begin, end, piece.raw());
    dst.rows(begin, end).copy_from_host(piece.raw());
  }
}

}  // namespace moerl::kernels
