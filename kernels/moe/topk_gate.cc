#include "kernels/moe/topk_gate.h"

#include <vector>

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/moe/topk_gate_impl.h"

namespace moerl::kernels {
namespace {

constexpr int64_t kRowsPerTurn = 32;

void check_config(const char* op, const GateConfig& c) {
  check(c.n_routed_experts > 0, op, ": config.n_routed_experts is ", c.n_routed_experts,
        ", expected > 0");
  check(c.n_group > 0 && c.n_routed_experts % c.n_group == 0, op, ": config.n_group is ", c.n_group,
        ", expected a divisor of n_routed_experts = ", c.n_routed_experts);
  check(c.topk_group > 0 && c.topk_group <= c.n_group, op, ": config.topk_group is ", c.topk_group,
        ", expected in [1, n_group = ", c.n_group, "]");
  const int64_t candidates = c.n_routed_experts / c.n_group * c.topk_group;
  check(c.num_experts_per_tok > 0 && c.num_experts_per_tok <= candidates, op,
        ": config.num_experts_per_tok is ", c.num_experts_per_tok,
        ", expected in [1, experts of the kept groups = ", candidates, "]");
}

void check_matrix(const char* op, const char* name, const Tensor& x, Shape shape, DType dtype) {
  check_shape(op, name, x, shape);
  check_dtype(op, name, x, dtype);
}

void check_indices(const char* op, const Tensor& topk_idx, int64_t begin, int64_t end,
                   int64_t num_experts) {
  if (topk_idx.device() != Device::kCpu) return;
  const int32_t* idx = topk_idx.data<int32_t>();
  const int64_t k = topk_idx.dim(1);
  for (int64_t i = begin * k; i < end * k; ++i)
    check(idx[i] >= 0 && idx[i] < num_experts, op, ": topk_idx[", i / k, ", ", i % k, "] is ",
          idx[i], ", expected in [0, ", num_experts, ")");
}

double balance_loss_cpu(ExecContext& ctx, const Tensor& scores, const Tensor& topk_idx,
                        int64_t begin, int64_t end, double alpha, Tensor* dscores) {
  const int64_t experts = scores.dim(1), k = topk_idx.dim(1);
  const int64_t n = end - begin;
  std::vector<double> load(static_cast<size_t>(experts), 0.0);
  const int32_t* idx = topk_idx.data<int32_t>();
  for (int64_t i = begin * k; i < end * k; ++i) load[static_cast<size_t>(idx[i])] += 1;
  for (double& f : load) f *= static_cast<double>(experts) / static_cast<double>(k * n);

  const int64_t parts = (n + kBalanceRows - 1) / kBalanceRows;
  std::vector<double> sums(static_cast<size_t>(parts * experts));
  const BalanceLossArgs args{experts, scores.data<float>(), load.data(),
                             alpha / static_cast<double>(n),
                             dscores == nullptr ? nullptr : dscores->data<float>()};
  dispatch_isa(ctx.isa(), [&]<Isa isa>() {
    parallel_rows(ctx, n, kBalanceRows, [&](int64_t from, int64_t to) {
      TopkGateCpu<isa>::balance_loss(args, begin + from, begin + to,
                                     sums.data() + from / kBalanceRows * experts);
    });
  });
  double loss = 0;
  for (int64_t i = 0; i < experts; ++i) {
    double sum = 0;
    for (int64_t part = 0; part < parts; ++part)
      sum += sums[static_cast<size_t>(part * experts + i)];
    loss += load[static_cast<size_t>(i)] * (sum / static_cast<double>(n));
  }
  return alpha * loss;
}

double balance_loss_cuda(ExecContext& ctx, const Tensor& scores, const Tensor& topk_idx,
                         int64_t begin, int64_t end, double alpha, Tensor* dscores) {
  Tensor loss = ctx.empty({1}, DType::kF64), load = ctx.empty({scores.dim(1)}, DType::kF64);
  Tensor inverse = ctx.empty({end - begin}, DType::kF64);
  cuda_ops<TopkGateCuda>().balance_loss(
      {scores.dim(1), topk_idx.dim(1), begin, end, alpha, scores.data<float>(Device::kCuda),
       topk_idx.data<int32_t>(Device::kCuda),
       dscores == nullptr ? nullptr : dscores->data<float>(Device::kCuda),
       loss.data<double>(Device::kCuda), load.data<double>(Device::kCuda),
       inverse.data<double>(Device::kCuda)});
  return *loss.to(Device::kCpu).data<double>();
}

}  // namespace

void topk_gate_forward(ExecContext& ctx, const Tensor& logits, const Tensor* bias,
                       const GateConfig& config, Tensor& scores, Tensor& topk_idx,
                       Tensor& topk_weights) {
  const char* op = "topk_gate_forward";
  check_config(op, config);
  check_rank(op, "logits", logits, 2);
  const int64_t rows = logits.dim(0), experts = config.n_routed_experts;
  check_matrix(op, "logits", logits, {rows, experts}, DType::kF32);
  if (bias != nullptr) check_matrix(op, "bias", *bias, {experts}, DType::kF32);
  check_matrix(op, "scores", scores, {rows, experts}, DType::kF32);
  check_matrix(op, "topk_idx", topk_idx, {rows, config.num_experts_per_tok}, DType::kI32);
  check_matrix(op, "topk_weights", topk_weights, {rows, config.num_experts_per_tok}, DType::kF32);
  const Device device = ctx.device();
  const GateForwardArgs args{config,
                             logits.data<float>(device),
                             bias == nullptr ? nullptr : bias->data<float>(device),
                             scores.data<float>(device),
                             topk_idx.data<int32_t>(device),
                             topk_weights.data<float>(device)};
  switch (device) {
    case Device::kCpu: {
      const int64_t turns = (rows + kRowsPerTurn - 1) / kRowsPerTurn;
      Tensor scratch = ctx.empty({turns, gate_forward_scratch(config)}, DType::kF32);
      float* memory = scratch.data<float>();
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, rows, kRowsPerTurn, [&](int64_t begin, int64_t end) {
          TopkGateCpu<isa>::forward(args, begin, end,
                                    memory + begin / kRowsPerTurn * gate_forward_scratch(config));
        });
      });
    }
    case Device::kCuda:
      return cuda_ops<TopkGateCuda>().forward(args, rows);
  }
}

void topk_gate_backward(ExecContext& ctx, const Tensor& scores, const Tensor& topk_idx,
                        const GateConfig& config, const Tensor& dtopk_weights,
                        const Tensor* extra_dscores, Tensor& dlogits) {
  const char* op = "topk_gate_backward";
  check_config(op, config);
  check_rank(op, "scores", scores, 2);
  const int64_t rows = scores.dim(0), experts = config.n_routed_experts;
  const Shape chosen = {rows, config.num_experts_per_tok};
  check_matrix(op, "scores", scores, {rows, experts}, DType::kF32);
  check_matrix(op, "topk_idx", topk_idx, chosen, DType::kI32);
  check_matrix(op, "dtopk_weights", dtopk_weights, chosen, DType::kF32);
  if (extra_dscores != nullptr)
    check_matrix(op, "extra_dscores", *extra_dscores, scores.shape(), DType::kF32);
  check_matrix(op, "dlogits", dlogits, scores.shape(), DType::kF32);
  check_indices(op, topk_idx, 0, rows, experts);
  const Device device = ctx.device();
  const GateBackwardArgs args{
      config,
      scores.data<float>(device),
      topk_idx.data<int32_t>(device),
      dtopk_weights.data<float>(device),
      extra_dscores == nullptr ? nullptr : extra_dscores->data<float>(device),
      dlogits.data<float>(device)};
  switch (device) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, rows, rows_per_turn(experts), [&](int64_t begin, int64_t end) {
          TopkGateCpu<isa>::backward(args, begin, end);
        });
      });
    case Device::kCuda:
      return cuda_ops<TopkGateCuda>().backward(args, rows);
  }
}

double sequence_balance_loss(ExecContext& ctx, const Tensor& scores, const Tensor& topk_idx,
                             int64_t begin, int64_t end, double alpha, Tensor* dscores) {
  const char* op = "sequence_balance_loss";
  check_rank(op, "scores", scores, 2);
  check_dtype(op, "scores", scores, DType::kF32);
  check_rank(op, "topk_idx", topk_idx, 2);
  const int64_t experts = scores.dim(1), k = topk_idx.dim(1);
  check_matrix(op, "topk_idx", topk_idx, {scores.dim(0), k}, DType::kI32);
  check(begin >= 0 && begin <= end && end <= scores.dim(0), op, ": [begin, end) is [", begin, ", ",
        end, "), expected within [0, ", scores.dim(0), ")");
  if (dscores != nullptr) check_matrix(op, "dscores", *dscores, scores.shape(), DType::kF32);
  check_indices(op, topk_idx, begin, end, experts);
  if (begin == end) return 0;

  switch (ctx.device()) {
    case Device::kCpu:
      return balance_loss_cpu(ctx, scores, topk_idx, begin, end, alpha, dscores);
    case Device::kCuda:
      return balance_loss_cuda(ctx, scores, topk_idx, begin, end, alpha, dscores);
  }
  return 0;
}

}  // namespace moerl::kernels
