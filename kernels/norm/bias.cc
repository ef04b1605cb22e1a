#include "kernels/norm/bias.h"

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/norm/bias_impl.h"

namespace moerl::kernels {

void bias_forward(ExecContext& ctx, const Tensor& x, const Tensor& bias, Tensor& y) {
  const char* op = "bias_forward";
  check_rank(op, "x", x, 2);
  check_dtype(op, "x", x, DType::kF32);
  check_shape(op, "bias", bias, {x.dim(1)});
  check_dtype(op, "bias", bias, DType::kF32);
  check_shape(op, "y", y, x.shape());
  check_f32_or_bf16(op, "y", y);
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, x.dim(0), rows_per_turn(x.dim(1)), [&](int64_t begin, int64_t end) {
          BiasCpu<isa>::forward(x.data<float>(), bias.data<float>(), y.dtype(), y.raw(), x.dim(1),
                                begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<BiasCuda>().forward(x.data<float>(Device::kCuda),
                                          bias.data<float>(Device::kCuda), y.dtype(),
                                          y.raw(Device::kCuda), x.dim(0), x.dim(1));
  }
}

void bias_backward(ExecContext& ctx, const Tensor& dy, Tensor& dbias) {
  const char* op = "bias_backward";
  check_rank(op, "dy", dy, 2);
  check_f32_or_bf16(op, "dy", dy);
  check_shape(op, "dbias", dbias, {dy.dim(1)});
  check_dtype(op, "dbias", dbias, DType::kF32);
  constexpr int64_t kColumnsPerTurn = 64;
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, dy.dim(1), kColumnsPerTurn, [&](int64_t begin, int64_t end) {
          BiasCpu<isa>::backward(dy.dtype(), dy.raw(), dy.dim(0), dy.dim(1), dbias.data<float>(),
                                 begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<BiasCuda>().backward(dy.dtype(), dy.raw(Device::kCuda), dy.dim(0), dy.dim(1),
                                           dbias.data<float>(Device::kCuda));
  }
}

}  // namespace moerl::kernels
