#include "policy/optim/adamw.h"

#include <cmath>

#include "common/error.h"
#include "kernels/optim/adamw.h"
#include "policy/safetensors_writer.h"

namespace moerl {
namespace {

constexpr const char* kFirstMoment = "exp_avg.";
constexpr const char* kSecondMoment = "exp_avg_sq.";
constexpr const char* kStepName = "num_steps";
/// The step count travels as two fp32 digits of this base: whole numbers that fp32 holds exactly.
constexpr int64_t kStepBase = int64_t{1} << 20;

}  // namespace

AdamW::AdamW(std::vector<Parameter*> parameters, const OptimConfig& config) : config_(config) {
  for (Parameter* parameter : parameters) {
    if (parameter->is_buffer) continue;
    check(parameter->grad.defined(), "AdamW: ", parameter->name,
          " has no gradient; enable the model's gradients first");
    states_.push_back({parameter, Tensor::zeros(parameter->value.shape(), DType::kF32),
                       Tensor::zeros(parameter->value.shape(), DType::kF32)});
  }
}

double AdamW::step(ExecContext& ctx, double lr) {
  std::vector<const Tensor*> grads;
  for (const State& state : states_) grads.push_back(&state.parameter->grad);
  const double norm = std::sqrt(kernels::sum_of_squares(ctx, grads));
  if (!std::isfinite(norm)) {
    for (const State& state : states_) {
      const Tensor* grad = &state.parameter->grad;
      const double squares = kernels::sum_of_squares(ctx, {&grad, 1});
      if (!std::isfinite(squares))
        throw NumericalError(concat("optimizer step ", num_steps_ + 1, ": the gradient of ",
                                    state.parameter->name, " is not finite (sum of squares ",
                                    squares, ")"));
    }
    throw NumericalError(
        concat("optimizer step ", num_steps_ + 1, ": the gradient norm is ", norm));
  }

  ++num_steps_;
  const auto count = static_cast<double>(num_steps_);
  kernels::AdamWStep step{
      .lr = static_cast<float>(lr),
      .beta1 = static_cast<float>(config_.beta1),
      .beta2 = static_cast<float>(config_.beta2),
      .eps = static_cast<float>(config_.eps),
      .bias_correction1 = static_cast<float>(1 - std::pow(config_.beta1, count)),
      .bias_correction2 = static_cast<float>(1 - std::pow(config_.beta2, count)),
  };
  if (config_.grad_clip > 0 && norm > config_.grad_clip)
    step.grad_scale = static_cast<float>(config_.grad_clip / norm);
  for (State& state : states_) {
    Parameter& p = *state.parameter;
    step.weight_decay = p.decays() ? static_cast<float>(config_.weight_decay) : 0;
    kernels::adamw(ctx, step, p.grad, p.value, state.m, state.v);
  }
  ctx.pool().parallel_for(static_cast<int64_t>(states_.size()), [&](int64_t i) {
    states_[static_cast<size_t>(i)].parameter->grad.fill_zero();
  });
  return norm;
}

void AdamW::save(const std::filesystem::path& path) const {
  const float steps[2] = {static_cast<float>(num_steps_ / kStepBase),
                          static_cast<float>(num_steps_ % kStepBase)};
  policy::SafetensorsWriter writer;
  writer.add(kStepName, policy::SafetensorsDtype::kF32, {2}, steps);
  for (const State& state : states_) {
    const std::string& name = state.parameter->name;
    writer.add(kFirstMoment + name, policy::SafetensorsDtype::kF32, state.m.shape(), state.m.raw());
    writer.add(kSecondMoment + name, policy::SafetensorsDtype::kF32, state.v.shape(),
               state.v.raw());
  }
  writer.write(path);
}

void AdamW::load(const std::filesystem::path& path) {
  const policy::SafetensorsFile file(path);
  std::string problems;
  auto expect = [&](const std::string& name, const Shape& shape) {
    if (!file.contains(name)) {
      problems += "\n  " + name + " is missing";
    } else if (file.tensor(name).shape != shape) {
      problems += concat("\n  ", name, " is ", file.tensor(name).shape, ", expected ", shape);
    } else if (file.tensor(name).dtype != policy::SafetensorsDtype::kF32) {
      problems += concat("\n  ", name, " is ", policy::dtype_name(file.tensor(name).dtype),
                         ", expected F32");
    }
  };
  expect(kStepName, {2});
  for (const State& state : states_) {
    expect(kFirstMoment + state.parameter->name, state.m.shape());
    expect(kSecondMoment + state.parameter->name, state.v.shape());
  }
  const size_t expected = 2 * states_.size() + 1;
  if (problems.empty() && file.tensors().size() != expected)
    problems = concat("\n  it holds ", file.tensors().size(), " tensors, expected ", expected);
  if (!problems.empty())
    throw IoError(concat(path.string(), ": not the optimizer state of this model:", problems));

  float steps[2];
  policy::convert_to_f32(file.tensor(kStepName), steps);
  num_steps_ = static_cast<int64_t>(steps[0]) * kStepBase + static_cast<int64_t>(steps[1]);
  for (State& state : states_) {
    const std::string& name = state.parameter->name;
    policy::convert_to_f32(file.tensor(kFirstMoment + name), state.m.data<float>());
    policy::convert_to_f32(file.tensor(kSecondMoment + name), state.v.data<float>());
  }
}

void AdamW::reset(const OptimConfig& config) {
  config_ = config;
  num_steps_ = 0;
  for (State& state : states_) {
    state.m.fill_zero();
    state.v.fill_zero();
  }
}

}  // namespace moerl
