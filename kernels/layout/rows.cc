#include "kernels/layout/rows.h"

#include <cstring>

#include "kernels/check_tensor.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/layout/rows_impl.h"

namespace moerl::kernels {
namespace {

/// @param all [T, D], of which `some` [R, D] are the named rows.
void check_rows(const char* op, const char* all_name, const Tensor& all, const List<int32_t>& rows,
                const char* some_name, const Tensor& some) {
  check_rank(op, all_name, all, 2);
  check_shape(op, some_name, some, {static_cast<int64_t>(rows.size()), all.dim(1)});
  check_dtype(op, some_name, some, all.dtype());
  for (size_t i = 0; i < rows.size(); ++i)
    check(rows.host()[i] >= 0 && rows.host()[i] < all.dim(0), op, ": rows[", i, "] is ",
          rows.host()[i], ", expected [0, ", all.dim(0), ")");
}

int64_t row_bytes(const Tensor& x) { return x.dim(1) * dtype_size(x.dtype()); }

}  // namespace

void gather_rows(ExecContext& ctx, const Tensor& x, const List<int32_t>& rows, Tensor& y) {
  check_rows("gather_rows", "x", x, rows, "y", y);
  const int64_t bytes = row_bytes(x);
  const int32_t* row = rows.data(ctx);
  switch (ctx.device()) {
    case Device::kCpu:
      return parallel_rows(ctx, y.dim(0), rows_per_turn(x.dim(1)), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          std::memcpy(static_cast<char*>(y.raw()) + i * bytes,
                      static_cast<const char*>(x.raw()) + row[i] * bytes,
                      static_cast<size_t>(bytes));
      });
    case Device::kCuda:
      return cuda_ops<RowsCuda>().gather(x.raw(Device::kCuda), row, y.dim(0), bytes,
                                         y.raw(Device::kCuda));
  }
}

void scatter_rows(ExecContext& ctx, const Tensor& dy, const List<int32_t>& rows, Tensor& dx) {
  check_rows("scatter_rows", "dx", dx, rows, "dy", dy);
  const int64_t bytes = row_bytes(dx);
  const int32_t* row = rows.data(ctx);
  dx.fill_zero();
  switch (ctx.device()) {
    case Device::kCpu:
      return parallel_rows(ctx, dy.dim(0), rows_per_turn(dx.dim(1)),
                           [&](int64_t begin, int64_t end) {
                             for (int64_t i = begin; i < end; ++i)
                               std::memcpy(static_cast<char*>(dx.raw()) + row[i] * bytes,
                                           static_cast<const char*>(dy.raw()) + i * bytes,
                                           static_cast<size_t>(bytes));
                           });
    case Device::kCuda:
      return cuda_ops<RowsCuda>().scatter(dy.raw(Device::kCuda), row, dy.dim(0), bytes,
                                          dx.raw(Device::kCuda));
  }
}

}  // namespace moerl::kernels
