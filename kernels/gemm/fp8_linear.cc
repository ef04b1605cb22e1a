#include "kernels/gemm/fp8_linear.h"

#include <string>

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cuda/backend.h"
#include "kernels/gemm/fp8_linear_impl.h"

namespace moerl::kernels {
namespace {

/// The tensor cores that multiply E4M3 came with sm_89.
void require_fp8(const char* op) {
  const std::string architecture = device_memory().architecture();
  check(!architecture.starts_with("sm_") || std::stoi(architecture.substr(3)) >= 89, op,
        ": the device is ", architecture, ", expected sm_89 or newer");
}

Fp8Matrix quantize(ExecContext& ctx, const char* op, const char* name, const Tensor& x,
                   bool is_weight) {
  check_rank(op, name, x, 2);
  check_f32_or_bf16(op, name, x);
  const int64_t rows = x.dim(0), columns = x.dim(1);
  check(columns % 16 == 0, op, ": ", name, " is ", x.shape(),
        ", expected a multiple of 16 columns");
  Fp8Matrix out{
      rows, columns, ctx.empty({rows, columns / 4}, DType::kI32),
      ctx.empty({is_weight ? num_fp8_blocks(rows) : rows, num_fp8_blocks(columns)}, DType::kF32)};
  const Device device = ctx.device();
  const Fp8Quantize args{
      x.dtype() == DType::kBF16,     is_weight, rows, columns, x.raw(device), out.codes.raw(device),
      out.scales.data<float>(device)};
  if (device == Device::kCuda) {
    cuda_ops<Fp8LinearCuda>().quantize(args);
  } else {
    dispatch_isa(ctx.isa(), [&]<Isa isa>() {
      ctx.pool().parallel_for(num_fp8_blocks(rows),
                              [&](int64_t i) { Fp8LinearCpu<isa>::quantize(args, i); });
    });
  }
  return out;
}

void check_matrix(const char* op, const char* name, const Fp8Matrix& x, bool is_weight) {
  check_shape(op, name, x.codes, {x.rows, x.columns / 4});
  check_dtype(op, name, x.codes, DType::kI32);
  check_shape(op, "its scales", x.scales,
              {is_weight ? num_fp8_blocks(x.rows) : x.rows, num_fp8_blocks(x.columns)});
  check_dtype(op, "its scales", x.scales, DType::kF32);
}

}  // namespace

Fp8Matrix quantize_fp8_activation(ExecContext& ctx, const Tensor& x) {
  return quantize(ctx, "quantize_fp8_activation", "x", x, false);
}
Fp8Matrix quantize_fp8_weight(ExecContext& ctx, const Tensor& weight) {
  return quantize(ctx, "quantize_fp8_weight", "weight", weight, true);
}

void fp8_linear_forward(ExecContext& ctx, const Fp8Matrix& x, const Fp8Matrix& weight, Tensor& y) {
  const char* op = "fp8_linear_forward";
  check_matrix(op, "x", x, false);
  check_matrix(op, "weight", weight, true);
  check(x.columns == weight.columns, op, ": x has ", x.columns, " columns, expected the weight's ",
        weight.columns);
  check_shape(op, "y", y, {x.rows, weight.rows});
  check_f32_or_bf16(op, "y", y);
  const Device device = ctx.device();
  const Fp8Product args{x.rows,
                        weight.rows,
                        x.columns,
                        x.codes.raw(device),
                        weight.codes.raw(device),
                        x.scales.data<float>(device),
                        weight.scales.data<float>(device),
                        y.dtype() == DType::kBF16,
                        y.raw(device)};
  switch (device) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        ctx.pool().parallel_for(num_fp8_blocks(args.columns),
                                [&](int64_t i) { Fp8LinearCpu<isa>::forward(args, i); });
      });
    case Device::kCuda:
      require_fp8(op);
      return cuda_ops<Fp8LinearCuda>().forward(args);
  }
}

}  // namespace moerl::kernels
