#include "kernels/moe/permute.h"

#include <algorithm>
#include <vector>

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/moe/permute_impl.h"

namespace moerl::kernels {
namespace {

/// Checks x [T, D], its rows [T * K, D] of the same type, and that `rows` is of that size.
void check_shapes(const char* op, const char* token_name, const Tensor& by_token,
                  const char* row_name, const Tensor& by_row, const ExpertRows& rows,
                  int64_t num_topk) {
  check(num_topk > 0, op, ": num_topk is ", num_topk, ", expected > 0");
  check_rank(op, token_name, by_token, 2);
  check_f32_or_bf16(op, token_name, by_token);
  const int64_t slots = by_token.dim(0) * num_topk;
  check_shape(op, row_name, by_row, {slots, by_token.dim(1)});
  check_dtype(op, row_name, by_row, by_token.dtype());
  check_shape(op, "rows.row_of_slot", rows.row_of_slot, {slots});
  check_dtype(op, "rows.row_of_slot", rows.row_of_slot, DType::kI32);
  if (rows.row_of_slot.device() != Device::kCpu) return;
  const int32_t* row = rows.row_of_slot.data<int32_t>();
  for (int64_t i = 0; i < slots; ++i)
    check(row[i] >= 0 && row[i] < slots, op, ": rows.row_of_slot[", i, "] is ", row[i],
          ", expected in [0, ", slots, ")");
}

void check_weights(const char* op, const char* name, const Tensor& weights, int64_t tokens) {
  check_rank(op, name, weights, 2);
  check_shape(op, name, weights, {tokens, weights.dim(1)});
  check_dtype(op, name, weights, DType::kF32);
}

PermuteArgs make_args(const ExecContext& ctx, const Tensor& by_token, const ExpertRows& rows,
                      int64_t num_topk) {
  PermuteArgs args;
  args.is_bf16 = by_token.dtype() == DType::kBF16;
  args.num_topk = num_topk;
  args.dim = by_token.dim(1);
  args.row_of_slot = rows.row_of_slot.data<int32_t>(ctx.device());
  return args;
}

/// cpu for a range of tokens on a thread, or cuda for all of them.
template <typename F>
void for_tokens(ExecContext& ctx, int64_t tokens, const PermuteArgs& args, const F& cpu,
                void (*PermuteCuda::*cuda)(const PermuteArgs& args, int64_t tokens)) {
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(
            ctx, tokens, rows_per_turn(args.num_topk * args.dim),
            [&](int64_t begin, int64_t end) { cpu.template operator()<isa>(begin, end); });
      });
    case Device::kCuda:
      return (cuda_ops<PermuteCuda>().*cuda)(args, tokens);
  }
}

void sort_cpu(const Tensor& topk_idx, int64_t num_experts, ExpertRows& rows) {
  const int64_t slots = topk_idx.numel();
  const int32_t* expert = topk_idx.data<int32_t>();
  int64_t* offsets = rows.offsets.data<int64_t>();
  std::fill(offsets, offsets + num_experts + 1, 0);
  for (int64_t i = 0; i < slots; ++i) {
    check(expert[i] >= 0 && expert[i] < num_experts, "sort_by_expert: topk_idx[", i, "] is ",
          expert[i], ", expected in [0, ", num_experts, ")");
    ++offsets[expert[i] + 1];
  }
  for (int64_t e = 0; e < num_experts; ++e) offsets[e + 1] += offsets[e];
  std::vector<int64_t> next(offsets, offsets + num_experts);
  for (int64_t i = 0; i < slots; ++i) {
    const int64_t row = next[static_cast<size_t>(expert[i])]++;
    rows.row_of_slot.data<int32_t>()[i] = static_cast<int32_t>(row);
    rows.slot_of_row.data<int32_t>()[row] = static_cast<int32_t>(i);
  }
}

}  // namespace

ExpertRows sort_by_expert(ExecContext& ctx, const Tensor& topk_idx, int64_t num_experts) {
  const char* op = "sort_by_expert";
  check_rank(op, "topk_idx", topk_idx, 2);
  check_dtype(op, "topk_idx", topk_idx, DType::kI32);
  check(num_experts > 0, op, ": num_experts is ", num_experts, ", expected > 0");
  const int64_t slots = topk_idx.numel();
  ExpertRows rows{ctx.empty({num_experts + 1}, DType::kI64), ctx.empty({slots}, DType::kI32),
                  ctx.empty({slots}, DType::kI32)};
  switch (ctx.device()) {
    case Device::kCpu:
      sort_cpu(topk_idx, num_experts, rows);
      break;
    case Device::kCuda:
      cuda_ops<PermuteCuda>().sort(topk_idx.data<int32_t>(Device::kCuda), slots, num_experts,
                                   rows.offsets.data<int64_t>(Device::kCuda),
                                   rows.slot_of_row.data<int32_t>(Device::kCuda),
                                   rows.row_of_slot.data<int32_t>(Device::kCuda));
      break;
  }
  return rows;
}

void expand_forward(ExecContext& ctx, const Tensor& x, const ExpertRows& rows, int64_t num_topk,
                    Tensor& y) {
  check_shapes("expand_forward", "x", x, "y", y, rows, num_topk);
  PermuteArgs args = make_args(ctx, x, rows, num_topk);
  args.by_token = x.raw(ctx.device());
  args.row_out = y.raw(ctx.device());
  for_tokens(
      ctx, x.dim(0), args,
      [&]<Isa isa>(int64_t begin, int64_t end) { PermuteCpu<isa>::expand(args, begin, end); },
      &PermuteCuda::expand);
}

void expand_backward(ExecContext& ctx, const Tensor& dy, const ExpertRows& rows, int64_t num_topk,
                     Tensor& dx, Write write) {
  check_shapes("expand_backward", "dx", dx, "dy", dy, rows, num_topk);
  PermuteArgs args = make_args(ctx, dx, rows, num_topk);
  args.by_row = dy.raw(ctx.device());
  args.token_out = dx.raw(ctx.device());
  args.accumulate = write == Write::kAccumulate;
  for_tokens(
      ctx, dx.dim(0), args,
      [&]<Isa isa>(int64_t begin, int64_t end) {
        PermuteCpu<isa>::expand_backward(args, begin, end);
      },
      &PermuteCuda::expand_backward);
}

void reduce_forward(ExecContext& ctx, const Tensor& x, const Tensor& weights,
                    const ExpertRows& rows, const Tensor* shared, Tensor& y) {
  const char* op = "reduce_forward";
  check_rank(op, "y", y, 2);
  check_weights(op, "weights", weights, y.dim(0));
  check_shapes(op, "y", y, "x", x, rows, weights.dim(1));
  if (shared != nullptr) {
    check_shape(op, "shared", *shared, y.shape());
    check_dtype(op, "shared", *shared, y.dtype());
  }
  PermuteArgs args = make_args(ctx, y, rows, weights.dim(1));
  args.weights = weights.data<float>(ctx.device());
  args.by_row = x.raw(ctx.device());
  args.shared = shared == nullptr ? nullptr : shared->raw(ctx.device());
  args.token_out = y.raw(ctx.device());
  for_tokens(
      ctx, y.dim(0), args,
      [&]<Isa isa>(int64_t begin, int64_t end) { PermuteCpu<isa>::reduce(args, begin, end); },
      &PermuteCuda::reduce);
}

void reduce_backward(ExecContext& ctx, const Tensor& dy, const Tensor& x, const Tensor& weights,
                     const ExpertRows& rows, Tensor& dx, Tensor& dweights) {
  const char* op = "reduce_backward";
  check_rank(op, "dy", dy, 2);
  check_weights(op, "weights", weights, dy.dim(0));
  check_shapes(op, "dy", dy, "x", x, rows, weights.dim(1));
  check_shape(op, "dx", dx, x.shape());
  check_dtype(op, "dx", dx, x.dtype());
  check_shape(op, "dweights", dweights, weights.shape());
  check_dtype(op, "dweights", dweights, DType::kF32);
  PermuteArgs args = make_args(ctx, dy, rows, weights.dim(1));
  args.weights = weights.data<float>(ctx.device());
  args.by_token = dy.raw(ctx.device());
  args.by_row = x.raw(ctx.device());
  args.row_out = dx.raw(ctx.device());
  args.dweights = dweights.data<float>(ctx.device());
  for_tokens(
      ctx, dy.dim(0), args,
      [&]<Isa isa>(int64_t begin, int64_t end) {
        PermuteCpu<isa>::reduce_backward(args, begin, end);
      },
      &PermuteCuda::reduce_backward);
}

}  // namespace moerl::kernels
