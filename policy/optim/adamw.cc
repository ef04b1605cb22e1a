#include "policy/optim/adamw.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/error.h"
#include "kernels/optim/adamw.h"
#include "kernels/optim/adamw_impl.h"
#include "policy/host_copy.h"
#include "policy/safetensors_writer.h"

namespace moerl {
namespace {

constexpr const char* kFirstMoment = "exp_avg.";
constexpr const char* kSecondMoment = "exp_avg_sq.";
constexpr const char* kStepName = "num_steps";
/// The step count travels as two fp32 digits of this base: whole numbers that fp32 holds exactly.
constexpr int64_t kStepBase = int64_t{1} << 20;

std::vector<Parameter*> with_gradients(const std::vector<Parameter*>& parameters) {
  std::vector<Parameter*> used;
  for (Parameter* parameter : parameters) {
    if (parameter->is_buffer) continue;
    check(parameter->grad.defined(), "AdamW: ", parameter->name,
          " has no gradient; enable the model's gradients first");
    used.push_back(parameter);
  }
  return used;
}

std::vector<int64_t> sizes_of(const std::vector<Parameter*>& parameters) {
  std::vector<int64_t> sizes;
  for (const Parameter* parameter : parameters) sizes.push_back(parameter->value.numel());
  return sizes;
}

/// Elements [begin, end) of a tensor, sharing its memory.
Tensor elements(const Tensor& tensor, int64_t begin, int64_t end) {
  return tensor.view({tensor.numel()}).rows(begin, end);
}

/// The runs of several tensors, one after the other, on the host. @param tensor_of  a parameter's.
template <typename TensorOf>
Tensor packed(const std::vector<ParameterRun>& runs, const TensorOf& tensor_of) {
  Tensor out = Tensor::empty({num_elements(runs)}, DType::kF32);
  int64_t offset = 0;
  for (const ParameterRun& run : runs) {
    const int64_t end = offset + run.size();
    out.rows(offset, end).copy_from(elements(tensor_of(run.parameter), run.begin, run.end));
    offset = end;
  }
  return out;
}

/// The inverse of packed.
template <typename TensorOf>
void unpack(const Tensor& values, const std::vector<ParameterRun>& runs,
            const TensorOf& tensor_of) {
  int64_t offset = 0;
  for (const ParameterRun& run : runs) {
    const int64_t end = offset + run.size();
    elements(tensor_of(run.parameter), run.begin, run.end).copy_from(values.rows(offset, end));
    offset = end;
  }
}

}  // namespace

AdamW::AdamW(std::vector<Parameter*> parameters, const OptimConfig& config,
             const DataParallel& parallel)
    : parameters_(with_gradients(parameters)),
      config_(config),
      parallel_(parallel),
      slices_(sizes_of(parameters_), parallel.comm().size(), kernels::kSumBlock),
      own_(slices_.slice(parallel.comm().rank())) {
  const int64_t n = num_elements(own_);
  const Device device = parameters_.empty() ? Device::kCpu : parameters_.front()->value.device();
  m_ = Tensor::zeros({n}, DType::kF32, device);
  v_ = Tensor::zeros({n}, DType::kF32, device);
  if (parallel_.num_shards() == 1) return;
  check(device == Device::kCpu, "AdamW: the parameters lie on ", device_name(device),
        "; shards are added on the cpu only");
  grad_sum_ = Tensor::zeros({n}, DType::kF32);
}

void AdamW::add_shards(ExecContext& ctx) {
  if (parallel_.num_shards() == 1) return;
  Communicator& comm = parallel_.comm();
  const auto grad_of = [&](size_t p) -> const Tensor& { return parameters_[p]->grad; };
  int64_t offset = 0;
  for (int64_t window = 0; window < slices_.num_windows(); ++window) {
    std::vector<Tensor> parts;
    for (int r = 0; r < comm.size(); ++r)
      parts.push_back(packed(slices_.window(r, window), grad_of));
    const int64_t n = parts[static_cast<size_t>(comm.rank())].numel();
    Tensor sum = grad_sum_.rows(offset, offset + n);
    reduce_scatter(ctx, comm, parts, sum);
    offset += n;
  }
  ctx.pool().parallel_for(static_cast<int64_t>(parameters_.size()), [&](int64_t i) {
    parameters_[static_cast<size_t>(i)]->grad.fill_zero();
  });
}

Tensor AdamW::gradient(const ParameterRun& run, int64_t offset) const {
  return parallel_.num_shards() == 1
             ? elements(parameters_[run.parameter]->grad, run.begin, run.end)
             : grad_sum_.rows(offset, offset + run.size());
}

double AdamW::sum_of_squares(ExecContext& ctx) const {
  std::vector<Tensor> grads;
  int64_t offset = 0;
  for (const ParameterRun& run : own_) {
    grads.push_back(gradient(run, offset));
    offset += run.size();
  }
  if (parallel_.comm().size() == 1) {
    std::vector<const Tensor*> all;
    for (const Tensor& grad : grads) all.push_back(&grad);
    return kernels::sum_of_squares(ctx, all);
  }
  // The same sum, block by block over all ranks.
  std::vector<double> squares;
  for (const Tensor& grad : grads)
    for (int64_t begin = 0; begin < grad.numel(); begin += kernels::kSumBlock) {
      const Tensor block = grad.rows(begin, std::min(begin + kernels::kSumBlock, grad.numel()));
      const Tensor* one = &block;
      squares.push_back(kernels::sum_of_squares(ctx, {&one, 1}));
    }
  double sum = 0;
  for (const std::vector<double>& of_rank : all_gather(parallel_.comm(), squares))
    for (double square : of_rank) sum += square;
  return sum;
}

void AdamW::throw_not_finite(ExecContext& ctx, double norm) const {
  size_t first = parameters_.size();
  int64_t offset = 0;
  for (const ParameterRun& run : own_) {
    const Tensor grad = gradient(run, offset);
    const Tensor* one = &grad;
    if (!std::isfinite(kernels::sum_of_squares(ctx, {&one, 1})))
      first = std::min(first, run.parameter);
    offset += run.size();
  }
  for (const std::vector<size_t>& of_rank : all_gather(parallel_.comm(), std::vector{first}))
    first = std::min(first, of_rank[0]);
  const std::string what =
      first < parameters_.size()
          ? concat("the gradient of ", parameters_[first]->name, " is not finite")
          : concat("the gradient norm is ", norm);
  throw NumericalError(concat("optimizer step ", num_steps_ + 1, ": ", what));
}

double AdamW::step(ExecContext& ctx, double lr) {
  const double norm = std::sqrt(sum_of_squares(ctx));
  if (!std::isfinite(norm)) throw_not_finite(ctx, norm);

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
  int64_t offset = 0;
  for (const ParameterRun& run : own_) {
    const Parameter& p = *parameters_[run.parameter];
    step.weight_decay = p.decays() ? static_cast<float>(config_.weight_decay) : 0;
    const int64_t end = offset + run.size();
    Tensor weight = elements(p.value, run.begin, run.end), m = m_.rows(offset, end),
           v = v_.rows(offset, end);
    kernels::adamw(ctx, step, gradient(run, offset), weight, m, v);
    offset = end;
  }
  if (parallel_.comm().size() > 1) share_weights();

  if (parallel_.num_shards() > 1) {
    grad_sum_.fill_zero();
  } else {
    ctx.pool().parallel_for(static_cast<int64_t>(parameters_.size()), [&](int64_t i) {
      parameters_[static_cast<size_t>(i)]->grad.fill_zero();
    });
  }
  return norm;
}

void AdamW::share_weights() {
  Communicator& comm = parallel_.comm();
  const auto value_of = [&](size_t p) -> Tensor& { return parameters_[p]->value; };
  for (int64_t window = 0; window < slices_.num_windows(); ++window) {
    std::vector<Tensor> all;
    for (int r = 0; r < comm.size(); ++r)
      all.push_back(Tensor::empty({num_elements(slices_.window(r, window))}, DType::kF32));
    all_gather(comm, packed(slices_.window(comm.rank(), window), value_of), all);
    for (int r = 0; r < comm.size(); ++r)
      if (r != comm.rank())
        unpack(all[static_cast<size_t>(r)], slices_.window(r, window), value_of);
  }
}

std::vector<Tensor> AdamW::gather_slices(const Tensor& slice) const {
  Communicator& comm = parallel_.comm();
  const bool is_root = comm.rank() == 0;
  std::vector<Tensor> whole;
  if (comm.size() == 1) {
    int64_t begin = 0;
    for (const Parameter* parameter : parameters_) {
      const int64_t end = begin + parameter->value.numel();
      whole.push_back(slice.rows(begin, end).view(parameter->value.shape()));
      begin = end;
    }
    return whole;
  }
  if (is_root)
    for (const Parameter* parameter : parameters_)
      whole.push_back(Tensor::empty(parameter->value.shape(), DType::kF32));
  int64_t offset = 0;
  for (int64_t window = 0; window < slices_.num_windows(); ++window) {
    const int64_t n = num_elements(slices_.window(comm.rank(), window));
    std::vector<Tensor> all;
    for (int r = 0; is_root && r < comm.size(); ++r)
      all.push_back(Tensor::empty({num_elements(slices_.window(r, window))}, DType::kF32));
    gather(comm, slice.rows(offset, offset + n), all);
    for (size_t r = 0; r < all.size(); ++r)
      unpack(all[r], slices_.window(static_cast<int>(r), window),
             [&](size_t p) -> Tensor& { return whole[p]; });
    offset += n;
  }
  return whole;
}

void AdamW::save(const std::filesystem::path& path) const {
  const std::vector<Tensor> m = gather_slices(m_), v = gather_slices(v_);
  if (parallel_.comm().rank() != 0) return;
  const float steps[2] = {static_cast<float>(num_steps_ / kStepBase),
                          static_cast<float>(num_steps_ % kStepBase)};
  policy::SafetensorsWriter writer;
  std::vector<Tensor> on_host;  // lives until written
  const auto add = [&](const std::string& name, const Tensor& moment) {
    const Tensor& values = on_host.emplace_back(moment.to(Device::kCpu));
    writer.add(name, policy::SafetensorsDtype::kF32, values.shape(), values.raw());
  };
  writer.add(kStepName, policy::SafetensorsDtype::kF32, {2}, steps);
  for (size_t p = 0; p < parameters_.size(); ++p) {
    const std::string& name = parameters_[p]->name;
    add(kFirstMoment + name, m[p]);
    add(kSecondMoment + name, v[p]);
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
  for (const Parameter* parameter : parameters_) {
    expect(kFirstMoment + parameter->name, parameter->value.shape());
    expect(kSecondMoment + parameter->name, parameter->value.shape());
  }
  const size_t expected = 2 * parameters_.size() + 1;
  if (problems.empty() && file.tensors().size() != expected)
    problems = concat("\n  it holds ", file.tensors().size(), " tensors, expected ", expected);
  if (!problems.empty())
    throw IoError(concat(path.string(), ": not the optimizer state of this model:", problems));

  float steps[2];
  policy::convert_to_f32(file.tensor(kStepName), steps);
  num_steps_ = static_cast<int64_t>(steps[0]) * kStepBase + static_cast<int64_t>(steps[1]);
  HostCopy first(m_), second(v_);
  float *m = first.tensor().data<float>(), *v = second.tensor().data<float>();
  for (const ParameterRun& run : own_) {
    const std::string& name = parameters_[run.parameter]->name;
    const auto copy_run = [&](const std::string& tensor, float* to) {
      std::memcpy(to, file.tensor(tensor).data.data() + run.begin * int64_t{sizeof(float)},
                  static_cast<size_t>(run.size()) * sizeof(float));
      return to + run.size();
    };
    m = copy_run(kFirstMoment + name, m);
    v = copy_run(kSecondMoment + name, v);
  }
  first.write_back();
  second.write_back();
}

void AdamW::reset(const OptimConfig& config) {
  config_ = config;
  num_steps_ = 0;
  m_.fill_zero();
  v_.fill_zero();
}

}  // namespace moerl
