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
  if (config.type == RopeScalingType::kNone) return;
  check(config.factor >= 1, op, ": config.factor is ", config.factor, ", expected >= 1");
  if (config.type == RopeScalingType::kLinear) return;
  check(config.original_max_position_embeddings > 0, op,
        ": config.original_max_position_embeddings is ", config.original_max_position_embeddings,
        ", expected > 0");
  if (config.type == RopeScalingType::kLlama3) {
    check(config.low_freq_factor > 0 && config.high_freq_factor > config.low_freq_factor, op,
          ": config.high_freq_factor is ", config.high_freq_factor,
          ", expected more than low_freq_factor = ", config.low_freq_factor, " > 0");
    return;
  }
  check(config.attention_factor >= 0, op, ": config.attention_factor is ", config.attention_factor,
        ", expected >= 0");
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

/// Fast dimensions keep their frequency, slow ones are stretched, with a ramp in between.
void scale_yarn(const RopeConfig& config, std::vector<double>& frequencies) {
  const double low = std::max(std::floor(yarn_correction_dim(config, config.beta_fast)), 0.0);
  double high = std::min(std::ceil(yarn_correction_dim(config, config.beta_slow)),
                         static_cast<double>(config.dim - 1));
  if (high == low) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / config.factor * ramp + frequencies[i] * (1 - ramp);
  }
}

void scale_llama3(const RopeConfig& config, std::vector<double>& frequencies) {
  const double low = config.low_freq_factor, high = config.high_freq_factor;
  for (double& f : frequencies) {
    const double turns =
        static_cast<double>(config.original_max_position_embeddings) * f / (2 * std::numbers::pi);
    const double kept = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    f = f / config.factor * (1 - kept) + f * kept;
  }
}

double amplitude(const RopeConfig& config) {
  if (config.type != RopeScalingType::kYarn) return 1;
  if (config.attention_factor > 0) return config.attention_factor;
  return yarn_mscale(config.factor, config.mscale) /
         yarn_mscale(config.factor, config.mscale_all_dim);
}

void rotate(ExecContext& ctx, const char* op, const Tensor& table, const List<int32_t>& positions,
            RopePairing pairing, int64_t first, Tensor& x, bool inverse) {
  check_rank(op, "table", table, 2);
  check_dtype(op, "table", table, DType::kF32);
  check_rank(op, "x", x, 3);
  check_f32_or_bf16(op, "x", x);
  check_size(op, "positions", positions.size(), x.dim(0));
  check(first >= 0 && first + table.dim(1) <= x.dim(2), op, ": first is ", first,
        ", expected columns [first, first + ", table.dim(1), ") within [0, ", x.dim(2), ")");
  for (size_t t = 0; positions.on_host() && t < positions.size(); ++t)
    check(positions.host()[t] >= 0 && positions.host()[t] < table.dim(0), op, ": positions[", t,
          "] is ", positions.host()[t], ", expected in [0, ", table.dim(0), ")");
  const Device device = ctx.device();
  const RopeArgs args{x.dtype() == DType::kBF16,
                      pairing,
                      table.data<float>(device),
                      positions.data(ctx),
                      x.dim(1),
                      x.dim(2),
                      first,
                      table.dim(1),
                      x.raw(device)};
  switch (device) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(
            ctx, x.dim(0), rows_per_turn(x.dim(1) * table.dim(1)),
            [&](int64_t begin, int64_t end) { RopeCpu<isa>::rotate(args, inverse, begin, end); });
      });
    case Device::kCuda:
      return cuda_ops<RopeCuda>().rotate(args, inverse, x.dim(0));
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
  switch (config.type) {
    case RopeScalingType::kNone:
      break;
    case RopeScalingType::kLinear:
      for (double& f : frequencies) f /= config.factor;
      break;
    case RopeScalingType::kYarn:
      scale_yarn(config, frequencies);
      break;
    case RopeScalingType::kLlama3:
      scale_llama3(config, frequencies);
      break;
  }
  return frequencies;
}

double rope_softmax_scale(const RopeConfig& config) {
  check_config("rope_softmax_scale", config);
  if (config.type != RopeScalingType::kYarn) return 1;
  const double m = yarn_mscale(config.factor, config.mscale_all_dim);
  return m * m;
}

Tensor rope_table(const RopeConfig& config, int64_t max_positions) {
  check(max_positions >= 0, "rope_table: max_positions is ", max_positions, ", expected >= 0");
  const std::vector<double> frequencies = rope_inverse_frequencies(config);
  const double size = amplitude(config);
  Tensor table = Tensor::empty({max_positions, config.dim}, DType::kF32);
  float* out = table.data<float>();
  for (int64_t position = 0; position < max_positions; ++position)
    for (double frequency : frequencies) {
      const double angle = static_cast<double>(position) * frequency;
      *out++ = static_cast<float>(std::cos(angle) * size);
      *out++ = static_cast<float>(std::sin(angle) * size);
    }
  return table;
}

void rope_forward(ExecContext& ctx, const Tensor& table, const List<int32_t>& positions,
                  RopePairing pairing, int64_t first, Tensor& x) {
  rotate(ctx, "rope_forward", table, positions, pairing, first, x, false);
}

void rope_backward(ExecContext& ctx, const Tensor& table, const List<int32_t>& positions,
                   RopePairing pairing, int64_t first, Tensor& dx) {
  rotate(ctx, "rope_backward", table, positions, pairing, first, dx, true);
}

}  // namespace moerl::kernels
