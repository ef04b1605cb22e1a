#include "kernels/gemm/fp8_linear.h"

#include <string>

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cuda/backend.h"
#include "kernels/gemm/fp8_linear_impl.h"
#include "kernels/gemm/linear_groups.h"

namespace moerl::kernels {
namespace {

/// The tensor cores that multiply E4M3 came with sm_89.
void require_fp8(const char* op) {
  const std::string architecture = device_memory().architecture();
  check(!architecture.starts_with("sm_") || std::stoi(architecture.substr(3)) >= 89, op,
        ": the device is ", architecture, ", expected sm_89 or newer for FP8");
}

Shape codes_shape(int64_t rows, int64_t columns) { return {rows, fp8_pitch(columns) / 4}; }
Shape block_shape(int64_t rows, int64_t columns) {
  return {num_fp8_blocks(rows), num_fp8_blocks(columns)};
}

void quantize(ExecContext& ctx, const Fp8Quantize& args) {
  if (ctx.device() == Device::kCuda) return cuda_ops<Fp8LinearCuda>().quantize(args);
  dispatch_isa(ctx.isa(), [&]<Isa isa>() {
    ctx.pool().parallel_for(num_fp8_blocks(args.rows),
                            [&](int64_t i) { Fp8LinearCpu<isa>::quantize(args, i); });
  });
}

/// The products of each group, 128 columns at a time.
void products_cpu(ExecContext& ctx, Product product, const Fp8Product& all,
                  std::span<const int64_t> offsets, std::span<const PackedWeight* const> weights) {
  const int64_t blocks = num_fp8_blocks(all.columns), pitch = fp8_pitch(all.depth);
  const int64_t y_size = all.y_is_bf16 ? 2 : 4;
  ctx.pool().parallel_for(static_cast<int64_t>(weights.size()) * blocks, [&](int64_t chunk) {
    const auto g = static_cast<size_t>(chunk / blocks);
    const int64_t begin = offsets[g];
    Fp8Product args = all;
    args.rows = offsets[g + 1] - begin;
    args.x = static_cast<const uint8_t*>(all.x) + begin * pitch;
    args.x_scales = all.x_scales + begin * num_fp8_blocks(all.depth);
    args.weight = weights[g]->image(product).raw();
    args.weight_scales = weights[g]->scales(product).data<float>();
    args.y = static_cast<uint8_t*>(all.y) + begin * all.columns * y_size;
    if (args.rows == 0) return;
    dispatch_isa(ctx.isa(), [&]<Isa isa>() { Fp8LinearCpu<isa>::product(args, chunk % blocks); });
  });
}

}  // namespace

Fp8Activation quantize_fp8_activation(ExecContext& ctx, const Tensor& x) {
  const char* op = "quantize_fp8_activation";
  check_rank(op, "x", x, 2);
  check_f32_or_bf16(op, "x", x);
  const int64_t rows = x.dim(0), columns = x.dim(1);
  Fp8Activation out{rows, columns, ctx.empty(codes_shape(rows, columns), DType::kI32),
                    ctx.empty({rows, num_fp8_blocks(columns)}, DType::kF32)};
  const Device device = ctx.device();
  quantize(ctx, {.is_bf16 = x.dtype() == DType::kBF16,
                 .is_weight = false,
                 .rows = rows,
                 .columns = columns,
                 .x = x.raw(device),
                 .codes = out.codes.raw(device),
                 .scales = out.scales.data<float>(device),
                 .transposed = nullptr,
                 .transposed_scales = nullptr});
  return out;
}

void pack_fp8_weight(ExecContext& ctx, const Tensor& master, bool with_dgrad,
                     PackedWeight& packed) {
  const char* op = "pack_fp8_weight";
  check_rank(op, "master", master, 2);
  check_dtype(op, "master", master, DType::kF32);
  const int64_t rows = master.dim(0), columns = master.dim(1);
  const Device device = ctx.device();
  if (device == Device::kCuda) require_fp8(op);
  packed.dtype = DType::kBF16;
  packed.is_fp8 = true;
  packed.out_features = rows;
  packed.in_features = columns;
  ctx.reserve(packed.forward, codes_shape(rows, columns), DType::kI32);
  ctx.reserve(packed.forward_scales, block_shape(rows, columns), DType::kF32);
  if (with_dgrad) {
    ctx.reserve(packed.dgrad, codes_shape(columns, rows), DType::kI32);
    ctx.reserve(packed.dgrad_scales, block_shape(columns, rows), DType::kF32);
  } else {
    packed.dgrad = packed.dgrad_scales = Tensor();
  }
  quantize(ctx,
           {.is_bf16 = false,
            .is_weight = true,
            .rows = rows,
            .columns = columns,
            .x = master.raw(device),
            .codes = packed.forward.raw(device),
            .scales = packed.forward_scales.data<float>(device),
            .transposed = with_dgrad ? packed.dgrad.raw(device) : nullptr,
            .transposed_scales = with_dgrad ? packed.dgrad_scales.data<float>(device) : nullptr});
}

void fp8_products(ExecContext& ctx, Product product, const Tensor& x, const GroupOffsets& offsets,
                  const WeightList& weights, Tensor& y, Write write) {
  const Device device = ctx.device();
  const Fp8Activation codes = quantize_fp8_activation(ctx, x);
  Fp8Product args{.rows = x.dim(0),
                  .columns = y.dim(1),
                  .depth = x.dim(1),
                  .x = codes.codes.raw(device),
                  .x_scales = codes.scales.data<float>(device),
                  .weight = nullptr,
                  .weight_scales = nullptr,
                  .y_is_bf16 = y.dtype() == DType::kBF16,
                  .accumulate = write == Write::kAccumulate,
                  .y = y.raw(device),
                  .groups = {}};
  if (device == Device::kCpu)
    return products_cpu(ctx, product, args, offsets.host(), weights.host());
  args.groups = groups_on_device(ctx, offsets);
  if (args.groups.count == 0) {
    const PackedWeight& weight = *weights.host().front();
    args.weight = weight.image(product).raw(device);
    args.weight_scales = weight.scales(product).data<float>(device);
  } else {
    args.groups.weights = weights.data(ctx, product);
  }
  cuda_ops<Fp8LinearCuda>().product(args);
}

}  // namespace moerl::kernels
