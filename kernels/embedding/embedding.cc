#include "kernels/embedding/embedding.h"

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/embedding/embedding_impl.h"

namespace moerl::kernels {
namespace {

// A token's slice of a row is then 256 bytes of the table: whole cache lines of one thread.
constexpr int64_t kBackwardColumns = 64;

void check_arguments(const char* op, const char* table_name, const Tensor& table,
                     const List<int32_t>& ids, const char* rows_name, const Tensor& rows) {
  check_rank(op, table_name, table, 2);
  check_shape(op, rows_name, rows, Shape{static_cast<int64_t>(ids.size()), table.dim(1)});
  check_f32_or_bf16(op, rows_name, rows);
  for (size_t t = 0; ids.on_host() && t < ids.size(); ++t)
    check(ids.host()[t] >= 0 && ids.host()[t] < table.dim(0), op, ": ids[", t, "] is ",
          ids.host()[t], ", expected [0, ", table.dim(0), ")");
}

}  // namespace

void embedding_forward(ExecContext& ctx, const Tensor& table, const List<int32_t>& ids, Tensor& y) {
  check_arguments("embedding", "table", table, ids, "y", y);
  if (table.dtype() != y.dtype()) check_dtype("embedding", "table", table, DType::kF32);
  const int64_t dim = table.dim(1);
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, y.dim(0), rows_per_turn(dim), [&](int64_t begin, int64_t end) {
          EmbeddingCpu<isa>::forward(table.dtype(), table.raw(), dim, ids.data(ctx), y.dtype(),
                                     y.raw(), begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<EmbeddingCuda>().forward(table.dtype(), table.raw(Device::kCuda), dim,
                                               ids.data(ctx), y.dim(0), y.dtype(),
                                               y.raw(Device::kCuda));
  }
}

void embedding_backward(ExecContext& ctx, const Tensor& dy, const List<int32_t>& ids,
                        Tensor& dtable) {
  check_arguments("embedding_backward", "dtable", dtable, ids, "dy", dy);
  check_dtype("embedding_backward", "dtable", dtable, DType::kF32);
  const int64_t dim = dtable.dim(1);
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, dim, kBackwardColumns, [&](int64_t begin, int64_t end) {
          EmbeddingCpu<isa>::backward(dy.dtype(), dy.raw(), dim, ids.data(ctx), dy.dim(0),
                                      dtable.data<float>(), begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<EmbeddingCuda>().backward(dy.dtype(), dy.raw(Device::kCuda), dim,
                                                ids.data(ctx), dy.dim(0),
                                                dtable.data<float>(Device::kCuda));
  }
}

}  // namespace moerl::kernels
