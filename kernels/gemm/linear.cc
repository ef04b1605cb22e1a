#include "kernels/gemm/linear.h"

#include <algorithm>
#include <vector>

#include "common/check.h"
#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/gemm/dense_products.h"
#include "kernels/gemm/fp8_linear.h"
#include "kernels/gemm/linear_groups.h"
#include "kernels/gemm/linear_impl.h"
#include "kernels/gemm/linear_partition.h"
#include "kernels/gemm/wgmma_products.h"

namespace moerl::kernels {
namespace {

bool runs_on_amx(const ExecContext& ctx, DType dtype) {
  return ctx.isa() == Isa::kAmx && dtype == DType::kBF16;
}

bool is_working_type(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

/// This thread's scratch memory, grown to the size asked for.
float* thread_scratch(int64_t elements) {
  thread_local Tensor scratch;
  if (!scratch.defined() || scratch.numel() < elements)
    scratch = Tensor::empty({elements}, DType::kF32);
  return scratch.data<float>();
}

Shape image_shape(int64_t columns, int64_t depth, DType dtype) {
  if (dtype == DType::kF32) return {divide_up(columns, kPanelColumns), depth, kPanelColumns};
  return {divide_up(columns, kBlock), divide_up(depth, kBlock), 2, 16, 16, 2};
}

void check_output(const char* op, const char* name, const Tensor& tensor, const Shape& expected,
                  DType working) {
  check_shape(op, name, tensor, expected);
  check(tensor.dtype() == DType::kF32 || tensor.dtype() == working, op, ": ", name, " is ",
        dtype_name(tensor.dtype()), ", expected f32 or the working type ", dtype_name(working));
}

void check_offsets(const char* op, const GroupOffsets& list, size_t groups, int64_t rows) {
  check(list.groups() == groups, op, ": offsets has ", list.groups() + 1,
        " values, expected one more than the ", groups, " groups");
  if (!list.on_host()) return;
  const std::span<const int64_t> offsets = list.host();
  check(offsets.front() == 0 && offsets.back() == rows, op, ": offsets run from ", offsets.front(),
        " to ", offsets.back(), ", expected 0 to ", rows, " rows");
  check(std::is_sorted(offsets.begin(), offsets.end()), op, ": offsets must ascend");
}

/// y = x B for row groups with an image B each.
void products_cpu(ExecContext& ctx, Product product, const Tensor& x,
                  std::span<const int64_t> offsets, std::span<const PackedWeight* const> weights,
                  Tensor& y, Write write) {
  const int64_t depth = x.dim(1), columns = y.dim(1);
  const std::vector<OutputBlock> blocks =
      partition_product(offsets, depth, columns, ctx.num_threads());
  const auto* x_data = static_cast<const char*>(x.raw());
  auto* y_data = static_cast<char*>(y.raw());
  ctx.pool().parallel_for(static_cast<int64_t>(blocks.size()), [&](int64_t chunk) {
    const OutputBlock& block = blocks[static_cast<size_t>(chunk)];
    const auto g = static_cast<size_t>(block.group);
    const int64_t row = offsets[g] + block.row_begin;
    const ProductTask task = {.dtype = x.dtype(),
                              .x = x_data + row * depth * dtype_size(x.dtype()),
                              .image = weights[g]->image(product).raw(),
                              .y = y_data + row * columns * dtype_size(y.dtype()),
                              .y_dtype = y.dtype(),
                              .accumulate = write == Write::kAccumulate,
                              .rows = block.row_end - block.row_begin,
                              .depth = depth,
                              .columns = columns,
                              .column_begin = block.column_begin,
                              .column_end = block.column_end};
    float* scratch = thread_scratch(task_scratch(depth));
    if (runs_on_amx(ctx, task.dtype)) return LinearAmx::product(task, scratch);
    dispatch_isa(ctx.isa(), [&]<Isa isa>() { LinearCpu<isa>::product(task, scratch); });
  });
}

void products_cuda(ExecContext& ctx, Product product, const Tensor& x, const GroupOffsets& offsets,
                   const WeightList& weights, Tensor& y, Write write) {
  LinearCudaProduct args{.dtype = x.dtype(),
                         .y_dtype = y.dtype(),
                         .accumulate = write == Write::kAccumulate,
                         .rows = x.dim(0),
                         .depth = x.dim(1),
                         .columns = y.dim(1),
                         .x = x.raw(Device::kCuda),
                         .y = y.raw(Device::kCuda),
                         .weight = nullptr,
                         .groups = groups_on_device(ctx, offsets)};
  if (args.groups.count == 0)
    args.weight = weights.host().front()->image(product).raw(Device::kCuda);
  else
    args.groups.weights = weights.data(ctx, product);
  const bool transposed = product == Product::kDgrad;
  if (dense_products().run(ctx, args, transposed)) return;
  if (wgmma_products().run(ctx, args, transposed)) return;
  const LinearCuda& ops = cuda_ops<LinearCuda>();
  transposed ? ops.dgrad(args) : ops.forward(args);
}

void products(ExecContext& ctx, Product product, const Tensor& x, const GroupOffsets& offsets,
              const WeightList& weights, Tensor& y, Write write) {
  if (weights.host().front()->is_fp8)
    return fp8_products(ctx, product, x, offsets, weights, y, write);
  switch (ctx.device()) {
    case Device::kCpu:
      return products_cpu(ctx, product, x, offsets.host(), weights.host(), y, write);
    case Device::kCuda:
      return products_cuda(ctx, product, x, offsets, weights, y, write);
  }
}

void check_weights(const char* op, std::span<const PackedWeight* const> weights) {
  check(!weights.empty(), op, ": weights is empty, expected at least one");
  for (const PackedWeight* weight : weights) {
    check(weight != nullptr && weight->forward.defined(), op, ": a weight is not packed");
    const PackedWeight& first = *weights.front();
    const Precision precision(weight->dtype, weight->is_fp8), expected(first.dtype, first.is_fp8);
    check(precision == expected && weight->out_features == first.out_features &&
              weight->in_features == first.in_features,
          op, ": a weight is ", precision.name(), " [", weight->out_features, ", ",
          weight->in_features, "], expected the shape of the first, ", expected.name(), " [",
          first.out_features, ", ", first.in_features, "]");
  }
}

void forward(const char* op, ExecContext& ctx, const Tensor& x, const GroupOffsets& offsets,
             const WeightList& list, Tensor& y, Write write) {
  const std::span<const PackedWeight* const> weights = list.host();
  check_weights(op, weights);
  const PackedWeight& weight = *weights.front();
  check_rank(op, "x", x, 2);
  check_dtype(op, "x", x, weight.dtype);
  check_shape(op, "x", x, {x.dim(0), weight.in_features});
  check_output(op, "y", y, {x.dim(0), weight.out_features}, weight.dtype);
  check(write == Write::kOverwrite || y.dtype() == DType::kF32, op, ": y is ",
        dtype_name(y.dtype()), ", expected f32 for accumulation");
  check_offsets(op, offsets, weights.size(), x.dim(0));
  products(ctx, Product::kForward, x, offsets, list, y, write);
}

void dgrad(const char* op, ExecContext& ctx, const Tensor& dy, const GroupOffsets& offsets,
           const WeightList& list, Tensor& dx, Write write) {
  const std::span<const PackedWeight* const> weights = list.host();
  check_weights(op, weights);
  const PackedWeight& weight = *weights.front();
  check_rank(op, "dy", dy, 2);
  check_dtype(op, "dy", dy, weight.dtype);
  check_shape(op, "dy", dy, {dy.dim(0), weight.out_features});
  check_output(op, "dx", dx, {dy.dim(0), weight.in_features}, weight.dtype);
  for (const PackedWeight* w : weights)
    check(w->dgrad.defined(), op, ": a weight was packed without its dgrad image");
  check_offsets(op, offsets, weights.size(), dy.dim(0));
  products(ctx, Product::kDgrad, dy, offsets, list, dx, write);
}

/// Packed operands of one wave of wgrad; a run's part starts at its padded first token.
class WgradWave {
 public:
  WgradWave(ExecContext& ctx, const Tensor& dy, const Tensor& x, std::span<const TokenRun> runs)
      : ctx_(ctx),
        dy_(dy),
        x_(x),
        runs_(runs),
        use_amx_(runs_on_amx(ctx, x.dtype())),
        column_unit_(wgrad_column_unit(x.dim(1), ctx.num_threads())) {
    for (const TokenRun& run : runs) {
      starts_.push_back(padded_tokens_);
      padded_tokens_ += round_up(run.end - run.begin, kBlock);
    }
    // AMX keeps bf16 tiles, which are smaller.
    transposed_ = ctx.empty({padded_tokens_, row_stride()}, DType::kF32);
    image_ = ctx.empty({padded_tokens_, column_stride()}, x.dtype());
  }

  void pack() {
    const int64_t row_parts = divide_up(rows(), kRowUnit);
    const int64_t column_parts = divide_up(columns(), column_unit_);
    const int64_t parts = row_parts + column_parts;
    const int64_t chunks = parts * static_cast<int64_t>(runs_.size());
    ctx_.pool().parallel_for(chunks, [&](int64_t chunk) {
      const int64_t run = chunk / parts, part = chunk % parts;
      if (part < row_parts) {
        pack_rows(run, part * kRowUnit);
      } else {
        pack_columns(run, (part - row_parts) * column_unit_);
      }
    });
  }

  /// Adds every run's product to its group's dweight. Runs of one wave are of different groups.
  void multiply(std::span<Tensor* const> dweights) {
    const int64_t row_parts = divide_up(rows(), kRowUnit);
    const int64_t column_parts = divide_up(columns(), column_unit_);
    const int64_t parts = row_parts * column_parts;
    const int64_t chunks = parts * static_cast<int64_t>(runs_.size());
    ctx_.pool().parallel_for(chunks, [&](int64_t chunk) {
      const auto run = static_cast<size_t>(chunk / parts);
      const int64_t row = chunk % parts / column_parts * kRowUnit;
      const int64_t column = chunk % column_parts * column_unit_;
      const WgradTask task = {
          .dtype = x_.dtype(),
          .transposed = transposed(run),
          .image = image(run),
          .dweight = dweights[static_cast<size_t>(runs_[run].group)]->data<float>(),
          .rows = rows(),
          .tokens = runs_[run].end - runs_[run].begin,
          .columns = columns(),
          .row_begin = row,
          .row_end = std::min(rows(), row + kRowUnit),
          .column_begin = column,
          .column_end = std::min(columns(), column + column_unit_)};
      if (use_amx_) return LinearAmx::wgrad(task, thread_scratch(task_scratch(0)));
      dispatch_isa(ctx_.isa(), [&]<Isa isa>() { LinearCpu<isa>::wgrad(task); });
    });
  }

 private:
  int64_t rows() const { return dy_.dim(1); }
  int64_t columns() const { return x_.dim(1); }
  int64_t row_stride() const { return round_up(rows(), kRowUnit); }
  int64_t column_stride() const { return round_up(columns(), kBlock); }

  void* transposed(size_t run) { return transposed_.data<float>() + starts_[run] * row_stride(); }
  void* image(size_t run) {
    return static_cast<char*>(image_.raw()) +
           starts_[run] * column_stride() * dtype_size(x_.dtype());
  }
  PackSource source(const Tensor& tensor, size_t run) const {
    const int64_t bytes = tensor.dim(1) * dtype_size(tensor.dtype());
    return {static_cast<const char*>(tensor.raw()) + runs_[run].begin * bytes, tensor.dtype(),
            runs_[run].end - runs_[run].begin, tensor.dim(1)};
  }

  void pack_rows(int64_t run, int64_t begin) {
    const auto r = static_cast<size_t>(run);
    const PackSource dy = source(dy_, r);
    const int64_t end = std::min(rows(), begin + kRowUnit);
    if (use_amx_) return LinearAmx::pack_transposed(dy, begin, end, transposed(r));
    dispatch_isa(ctx_.isa(), [&]<Isa isa>() {
      LinearCpu<isa>::pack_transposed(dy, begin, end, transposed(r));
    });
  }

  void pack_columns(int64_t run, int64_t begin) {
    const auto r = static_cast<size_t>(run);
    const PackSource x = source(x_, r);
    const int64_t end = std::min(columns(), begin + column_unit_);
    for (int64_t block = begin / kBlock; block < divide_up(end, kBlock); ++block)
      dispatch_isa(ctx_.isa(),
                   [&]<Isa isa>() { LinearCpu<isa>::pack_columns(x, x.dtype, block, image(r)); });
  }

  ExecContext& ctx_;
  const Tensor &dy_, &x_;
  std::span<const TokenRun> runs_;
  bool use_amx_;
  int64_t column_unit_;
  std::vector<int64_t> starts_;
  int64_t padded_tokens_ = 0;
  Tensor transposed_, image_;
};

void wgrad_cpu(ExecContext& ctx, const Tensor& dy, const Tensor& x,
               std::span<const int64_t> offsets, std::span<Tensor* const> dweights) {
  for (const std::vector<TokenRun>& runs : partition_tokens(offsets, dy.dim(1) + x.dim(1))) {
    WgradWave wave(ctx, dy, x, runs);
    wave.pack();
    wave.multiply(dweights);
  }
}

void wgrad_cuda(ExecContext& ctx, const Tensor& dy, const Tensor& x, const GroupOffsets& offsets,
                std::span<Tensor* const> dweights) {
  std::vector<float*> pointers;
  for (Tensor* dweight : dweights) pointers.push_back(dweight->data<float>(Device::kCuda));
  const List<float*> list(pointers);
  LinearCudaWgrad args{.dtype = x.dtype(),
                       .tokens = x.dim(0),
                       .rows = dy.dim(1),
                       .columns = x.dim(1),
                       .dy = dy.raw(Device::kCuda),
                       .x = x.raw(Device::kCuda),
                       .dweight = nullptr,
                       .dweights = nullptr,
                       .groups = groups_on_device(ctx, offsets)};
  if (args.groups.count == 0)
    args.dweight = pointers.front();
  else
    args.dweights = list.data(ctx);
  if (wgmma_products().run(ctx, args)) return;
  cuda_ops<LinearCuda>().wgrad(args);
}

void wgrad(const char* op, ExecContext& ctx, const Tensor& dy, const Tensor& x,
           const GroupOffsets& offsets, std::span<Tensor* const> dweights) {
  check_rank(op, "dy", dy, 2);
  check_rank(op, "x", x, 2);
  check_f32_or_bf16(op, "x", x);
  check_dtype(op, "dy", dy, x.dtype());
  check_shape(op, "dy", dy, {x.dim(0), dy.dim(1)});
  for (const Tensor* dweight : dweights) {
    check(dweight != nullptr, op, ": a dweight is missing");
    check_shape(op, "dweight", *dweight, {dy.dim(1), x.dim(1)});
    check_dtype(op, "dweight", *dweight, DType::kF32);
  }
  check_offsets(op, offsets, dweights.size(), x.dim(0));
  if (dy.dim(1) == 0 || x.dim(1) == 0) return;
  switch (ctx.device()) {
    case Device::kCpu:
      return wgrad_cpu(ctx, dy, x, offsets.host(), dweights);
    case Device::kCuda:
      return wgrad_cuda(ctx, dy, x, offsets, dweights);
  }
}

void pack_cpu(ExecContext& ctx, const Tensor& master, PackedWeight& packed) {
  const int64_t rows = master.dim(0), columns = master.dim(1);
  const bool with_dgrad = packed.dgrad.defined();
  const PackSource source = {master.raw(), DType::kF32, rows, columns};
  const int64_t forward_blocks = divide_up(rows, kBlock);
  const int64_t dgrad_blocks = with_dgrad ? divide_up(columns, kBlock) : 0;
  ctx.pool().parallel_for(forward_blocks + dgrad_blocks, [&](int64_t block) {
    dispatch_isa(ctx.isa(), [&]<Isa isa>() {
      if (block < forward_blocks)
        return LinearCpu<isa>::pack_rows(source, packed.dtype, block, packed.forward.raw());
      LinearCpu<isa>::pack_columns(source, packed.dtype, block - forward_blocks,
                                   packed.dgrad.raw());
    });
  });
}

/// A block of rows at a time, of which each thread reads one.
void pack_cpu(ExecContext& ctx, int64_t rows, int64_t columns, const ReadRows& read,
              PackedWeight& packed) {
  auto* image = static_cast<char*>(packed.forward.raw());
  const int64_t depth = packed.dtype == DType::kBF16 ? round_up(columns, kBlock) : columns;
  const int64_t block_bytes = kBlock * depth * dtype_size(packed.dtype);
  parallel_rows(ctx, rows, kBlock, [&](int64_t begin, int64_t end) {
    float* values = thread_scratch(kBlock * columns);
    read(begin, end, packed.dtype, values);
    const PackSource source = {values, packed.dtype, end - begin, columns};
    dispatch_isa(ctx.isa(), [&]<Isa isa>() {
      LinearCpu<isa>::pack_rows(source, packed.dtype, 0, image + begin / kBlock * block_bytes);
    });
  });
}

/// Allocates what is not there yet. On kCuda the matrix itself serves both products.
void prepare(ExecContext& ctx, const Shape& shape, DType dtype, bool with_dgrad,
             PackedWeight& packed) {
  check(shape.rank() == 2, "pack_weight: master is ", shape, ", expected rank 2");
  check(is_working_type(dtype), "pack_weight: dtype is ", dtype_name(dtype),
        ", expected f32 or bf16");
  const bool is_matrix = ctx.device() == Device::kCuda;
  packed.dtype = dtype;
  packed.is_fp8 = false;
  packed.forward_scales = packed.dgrad_scales = Tensor();
  packed.out_features = shape[0];
  packed.in_features = shape[1];
  ctx.reserve(packed.forward, is_matrix ? shape : image_shape(shape[0], shape[1], dtype), dtype);
  if (!with_dgrad)
    packed.dgrad = Tensor();
  else if (is_matrix)
    packed.dgrad = packed.forward;
  else
    ctx.reserve(packed.dgrad, image_shape(shape[1], shape[0], dtype), dtype);
}

}  // namespace

void pack_weight(ExecContext& ctx, const Tensor& master, Precision precision, bool with_dgrad,
                 PackedWeight& packed) {
  check(master.defined(), "pack_weight: master is undefined");
  check_dtype("pack_weight", "master", master, DType::kF32);
  if (precision.is_fp8) return pack_fp8_weight(ctx, master, with_dgrad, packed);
  prepare(ctx, master.shape(), precision.dtype, with_dgrad, packed);
  switch (ctx.device()) {
    case Device::kCpu:
      return pack_cpu(ctx, master, packed);
    case Device::kCuda:
      return cast(ctx, master, packed.forward);
  }
}

void pack_weight(ExecContext& ctx, const Shape& shape, const ReadRows& read, Precision precision,
                 PackedWeight& packed) {
  if (precision.is_fp8) {
    Tensor master = ctx.empty(shape, DType::kF32);
    fill_rows(ctx, read, master);
    return pack_fp8_weight(ctx, master, false, packed);
  }
  prepare(ctx, shape, precision.dtype, false, packed);
  switch (ctx.device()) {
    case Device::kCpu:
      return pack_cpu(ctx, shape[0], shape[1], read, packed);
    case Device::kCuda:
      return fill_rows(ctx, read, packed.forward);
  }
}

void linear_forward(ExecContext& ctx, const Tensor& x, const PackedWeight& weight, Tensor& y,
                    Write write) {
  check_rank("linear_forward", "x", x, 2);
  forward("linear_forward", ctx, x, GroupOffsets::even(1, x.dim(0)), std::vector{&weight}, y,
          write);
}

void linear_dgrad(ExecContext& ctx, const Tensor& dy, const PackedWeight& weight, Tensor& dx,
                  Write write) {
  check_rank("linear_dgrad", "dy", dy, 2);
  dgrad("linear_dgrad", ctx, dy, GroupOffsets::even(1, dy.dim(0)), std::vector{&weight}, dx, write);
}

void linear_wgrad(ExecContext& ctx, const Tensor& dy, const Tensor& x, Tensor& dweight) {
  check_rank("linear_wgrad", "x", x, 2);
  Tensor* dweights[] = {&dweight};
  wgrad("linear_wgrad", ctx, dy, x, GroupOffsets::even(1, x.dim(0)), dweights);
}

void grouped_linear_forward(ExecContext& ctx, const Tensor& x, const GroupOffsets& offsets,
                            const WeightList& weights, Tensor& y) {
  forward("grouped_linear_forward", ctx, x, offsets, weights, y, Write::kOverwrite);
}

void grouped_linear_dgrad(ExecContext& ctx, const Tensor& dy, const GroupOffsets& offsets,
                          const WeightList& weights, Tensor& dx, Write write) {
  dgrad("grouped_linear_dgrad", ctx, dy, offsets, weights, dx, write);
}

void grouped_linear_wgrad(ExecContext& ctx, const Tensor& dy, const Tensor& x,
                          const GroupOffsets& offsets, std::span<Tensor* const> dweights) {
  wgrad("grouped_linear_wgrad", ctx, dy, x, offsets, dweights);
}

}  // namespace moerl::kernels
