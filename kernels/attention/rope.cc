#include "kernels/attention/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/attention/rope_impl.h"
#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"

namespace moerl::kernels {
namespace {

void check_config(const char* op, const RopeConfig& config) {
  check(config.dim > 0 && config.dim % 2 == 0, op, ": config.dim is ", config.dim,
        ", expected positive and even");
  check(config.theta > 1, op, ": config.theta is ", config.theta, ", expected > 1");
  if (!config.yarn) return;
  check(config.factor >= 1, op, ": config.factor is ", config.factor, ", expected >= 1");
  check(config.beta_slow > 0 && config.beta_fast >= config.beta_slow, op, ": config.beta_fast is ",
        config.beta_fast, ", expected at least beta_slow = ", config.beta_slow, " > 0");
  check(config.original_max_position_embeddings > 0, op,
        ": config.original_max_position_embeddings is ", config.original_max_position_embeddings,
        ", expected > 0");
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

/// The dimension pair that turns `rotations` times within the original context.
double yarn_correction_dim(const RopeConfig& config, double rotations) {
  const auto length = static_cast<double>(config.original_max_position_embeddings);
  return static_cast<double>(config.dim) * std::log(length / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(config.theta));
}

void rotate(ExecContext& ctx, const char* op, const Tensor& table,
            std::span<const int32_t> positions, int64_t first, Tensor& x, bool inverse) {
  check_rank(op, "table", table, 2);
  check_dtype(op, "table", table, DType::kF32);
  check_rank(op, "x", x, 3);
  check_f32_or_bf16(op, "x", x);
  check_size(op, "positions", positions.size(), x.dim(0));
  check(first >= 0 && first + table.dim(1) <= x.dim(2), op, ": first is ", first,
        ", expected columns [first, first + ", table.dim(1), ") within [0, ", x.dim(2), ")");
  for (size_t t = 0; t < positions.size(); ++t)
    check(positions[t] >= 0 && positions[t] < table.dim(0), op, ": positions[", t, "] is ",
          positions[t], ", expected in [0, ", table.dim(0), ")");
  switch (ctx.device()) {
    case Device::kCpu: {
      const RopeArgs args{x.dtype() == DType::kBF16,
                          table.data<float>(),
                          positions.data(),
                          x.dim(1),
                          x.dim(2),
                          first,
                          table.dim(1),
                          x.raw()};
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(
            ctx, x.dim(0), rows_per_turn(x.dim(1) * table.dim(1)),
            [&](int64_t begin, int64_t end) { RopeCpu<isa>::rotate(args, inverse, begin, end); });
      });
    }
    case Device::kCuda:
      throw_no_cuda();
  }
}

}  // namespace

std::vector<double> rope_inverse_frequencies(const RopeConfig& config) {
  check_config("rope_inverse_frequencies", config);
  const int64_t half = config.dim / 2;
  std::vector<double> frequencies(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i)
    frequencies[static_cast<size_t>(i)] =
        std::pow(config.theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.dim));
  if (!config.yarn) return frequencies;

  // Fast dimensions keep their frequency, slow ones are stretched, with a ramp in between.
  const double low = std::max(std::floor(yarn_correction_dim(config, config.beta_fast)), 0.0);
  double high = std::min(std::ceil(yarn_correction_dim(config, config.beta_slow)),
                         static_cast<double>(config.dim - 1));
  if (high == low) high += 0.001;
  for (int64_t i = 0; i < half; ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    double& f = frequencies[static_cast<size_t>(i)];
    f = f / config.factor * ramp + f * (1 - ramp);
  }
  return frequencies;
}

double rope_softmax_scale(const RopeConfig& config) {
  check_config("rope_softmax_scale", config);
  if (!config.yarn) return 1;
  const double m = yarn_mscale(config.factor, config.mscale_all_dim);
  return m * m;
}

Tensor rope_table(const RopeConfig& config, int64_t max_positions) {
  check(max_positions >= 0, "rope_table: max_positions is ", max_positions, ", expected >= 0");
  const std::vector<double> frequencies = rope_inverse_frequencies(config);
  const double amplitude = config.yarn ? yarn_mscale(config.factor, config.mscale) /
                                             yarn_mscale(config.factor, config.mscale_all_dim)
                                       : 1.0;
  Tensor table = Tensor::empty({max_positions, config.dim}, DType::kF32);
  float* out = table.data<float>();
  for (int64_t position = 0; position < max_positions; ++position)
    for (double frequency : frequencies) {
      const double angle = static_cast<double>(position) * frequency;
      *out++ = static_cast<float>(std::cos(angle) * amplitude);
      *out++ = static_cast<float>(std::sin(angle) * amplitude);
    }
  return table;
}

void rope_forward(ExecContext& ctx, const Tensor& table, std::span<const int32_t> positions,
                  int64_t first, Tensor& x) {
  rotate(ctx, "rope_forward", table, positions, first, x, false);
}

void rope_backward(ExecContext& ctx, const Tensor& table, std::span<const int32_t> positions,
                   int64_t first, Tensor& dx) {
  rotate(ctx, "rope_backward", table, positions, first, dx, true);
}

}  // namespace moerl::kernels
