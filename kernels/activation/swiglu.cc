#include "kernels/activation/swiglu.h"

#include "kernels/activation/swiglu_impl.h"
#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"

namespace moerl::kernels {
namespace {

void check_gate_up(const char* op, const Tensor& gate_up) {
  check_rank(op, "gate_up", gate_up, 2);
  check_f32_or_bf16(op, "gate_up", gate_up);
  check(gate_up.dim(1) % 2 == 0, op, ": gate_up is ", gate_up.shape(),
        ", expected an even number of columns");
}

}  // namespace

void swiglu_forward(ExecContext& ctx, const Tensor& gate_up, Tensor& hidden) {
  check_gate_up("swiglu", gate_up);
  const int64_t inner = gate_up.dim(1) / 2;
  check_shape("swiglu", "hidden", hidden, Shape{gate_up.dim(0), inner});
  check_dtype("swiglu", "hidden", hidden, gate_up.dtype());
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, gate_up.dim(0), rows_per_turn(inner), [&](int64_t begin, int64_t end) {
          SwigluCpu<isa>::forward(gate_up.dtype(), inner, gate_up.raw(), hidden.raw(), begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<SwigluCuda>().forward(gate_up.dtype(), inner, gate_up.dim(0),
                                            gate_up.raw(Device::kCuda), hidden.raw(Device::kCuda));
  }
}

void swiglu_backward(ExecContext& ctx, const Tensor& dhidden, const Tensor& gate_up,
                     Tensor& dgate_up) {
  check_gate_up("swiglu_backward", gate_up);
  const int64_t inner = gate_up.dim(1) / 2;
  check_shape("swiglu_backward", "dhidden", dhidden, Shape{gate_up.dim(0), inner});
  check_dtype("swiglu_backward", "dhidden", dhidden, gate_up.dtype());
  check_shape("swiglu_backward", "dgate_up", dgate_up, gate_up.shape());
  check_dtype("swiglu_backward", "dgate_up", dgate_up, gate_up.dtype());
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, gate_up.dim(0), rows_per_turn(inner), [&](int64_t begin, int64_t end) {
          SwigluCpu<isa>::backward(gate_up.dtype(), inner, dhidden.raw(), gate_up.raw(),
                                   dgate_up.raw(), begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<SwigluCuda>().backward(gate_up.dtype(), inner, gate_up.dim(0),
                                             dhidden.raw(Device::kCuda), gate_up.raw(Device::kCuda),
                                             dgate_up.raw(Device::kCuda));
  }
}

}  // namespace moerl::kernels
