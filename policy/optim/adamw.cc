#include "policy/optim/adamw.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "common/error.h"
#include "kernels/optim/adamw.h"
#include "policy/host_copy.h"
#include "policy/safetensors_writer.h"

namespace moerl {
namespace {

constexpr const char* kFirstMoment = "exp_avg.";
constexpr const char* kSecondMoment = "exp_avg_sq.";
constexpr const char* kStepName = "num_steps";
/// The step count travels as two fp32 digits of this base: whole numbers that fp32 holds exactly.
constexpr int64_t kStepBase = int64_t{1} << 20;

std::vector<Parameter*> learned(const std::vector<Parameter*>& parameters,
                                const ExpertParallel& experts) {
  std::vector<Parameter*> used;
  for (Parameter* parameter : parameters) {
    if (parameter->is_buffer) continue;
    check(parameter->grad.defined() || !experts.holds(*parameter), "AdamW: ", parameter->name,
          " has no gradient; enable the model's gradients first");
    used.push_back(parameter);
  }
  return used;
}

/// The slices of the parameters that are held by `holder`; the others count as empty.
ParameterSlices slices_of(const std::vector<Parameter*>& parameters, int holder, int num_slices) {
  std::vector<int64_t> sizes;
  for (const Parameter* parameter : parameters)
    sizes.push_back(parameter->holder == holder ? parameter->value.numel() : 0);
  return {std::move(sizes), num_slices, kernels::kSumBlock};
}

int64_t num_blocks(int64_t elements) {
  return (elements + kernels::kSumBlock - 1) / kernels::kSumBlock;
}

/// The sum of squares of one block of the gradient.
struct BlockSquares {
  int64_t block;  // counted over all parameters
  double squares;
};

/// Elements [begin, end) of a tensor, sharing its memory.
Tensor elements(const Tensor& tensor, int64_t begin, int64_t end) {
  return tensor.view({tensor.numel()}).rows(begin, end);
}

/// Copies the runs of several tensors, one after the other, to one tensor.
/// @param tensor_of  a parameter's.
template <typename TensorOf>
void pack(const std::vector<ParameterRun>& runs, const TensorOf& tensor_of, Tensor out) {
  int64_t offset = 0;
  for (const ParameterRun& run : runs) {
    const int64_t end = offset + run.size();
    out.rows(offset, end).copy_from(elements(tensor_of(run.parameter), run.begin, run.end));
    offset = end;
  }
}

/// The inverse of pack.
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
    : parameters_(learned(parameters, parallel.experts())), config_(config), parallel_(parallel) {
  const ExpertParallel& experts = parallel_.experts();
  slices_.push_back(slices_of(parameters_, Parameter::kEveryRank, parallel_.comm().size()));
  add_share(parallel_.comm(), Parameter::kEveryRank, 1);
  offsets_.resize(parameters_.size());
  if (experts.size() > 1) {
    for (int holder = 0; holder < experts.size(); ++holder)
      slices_.push_back(slices_of(parameters_, holder, experts.replicas().size()));
    add_share(experts.replicas(), experts.group().rank(), experts.size());
  }
  for_each_run([&](const Share&, const ParameterRun& run, int64_t offset) {
    offsets_[run.parameter] = offset;
  });
}

void AdamW::add_share(Communicator& comm, int holder, int64_t num_sources) {
  const std::vector<ParameterRun> own = slices(holder).slice(comm.rank());
  const int64_t n = num_elements(own);
  const Device device = parameters_.empty() ? Device::kCpu : parameters_.front()->value.device();
  Share& share = shares_.emplace_back(Share{.comm = &comm,
                                            .holder = holder,
                                            .num_sources = num_sources,
                                            .own = own,
                                            .m = Tensor::zeros({n}, DType::kF32, device),
                                            .v = Tensor::zeros({n}, DType::kF32, device)});
  if (parallel_.num_shards() > 1) share.grad_sum = Tensor::zeros({n}, DType::kF32, device);
}

void AdamW::zero_gradients(ExecContext& ctx) {
  ctx.pool().parallel_for(static_cast<int64_t>(parameters_.size()), [&](int64_t i) {
    Parameter& parameter = *parameters_[static_cast<size_t>(i)];
    if (parameter.grad.defined()) parameter.grad.fill_zero();
    for (Tensor& grad : parameter.peer_grads) grad.fill_zero();
  });
}

void AdamW::add_shards(ExecContext& ctx) {
  if (parallel_.num_shards() == 1) return;
  for (Share& share : shares_) {
    int64_t offset = 0;
    for (int64_t window = 0; window < slices(share.holder).num_windows(); ++window) {
      std::vector<Tensor> parts;
      for (int r = 0; r < share.comm->size(); ++r)
        parts.push_back(gradients_of(share, slices(share.holder).window(r, window)));
      const int64_t n = num_elements(slices(share.holder).window(share.comm->rank(), window));
      Tensor sum = share.grad_sum.rows(offset, offset + n);
      reduce_scatter(ctx, *share.comm, parts, sum, share.num_sources);
      offset += n;
    }
  }
  zero_gradients(ctx);
}

Tensor AdamW::gradients_of(const Share& share, const std::vector<ParameterRun>& runs) const {
  const int64_t n = num_elements(runs);
  Tensor all = Tensor::empty({share.num_sources * n}, DType::kF32, share.m.device());
  for (int64_t source = 0; source < share.num_sources; ++source)
    pack(
        runs,
        [&](size_t p) -> const Tensor& {
          return source == 0 ? parameters_[p]->grad
                             : parameters_[p]->peer_grads[static_cast<size_t>(source - 1)];
        },
        all.rows(source * n, (source + 1) * n));
  return all;
}

Tensor AdamW::gradient(const Share& share, const ParameterRun& run, int64_t offset) const {
  return parallel_.num_shards() == 1
             ? elements(parameters_[run.parameter]->grad, run.begin, run.end)
             : share.grad_sum.rows(offset, offset + run.size());
}

void AdamW::for_each_run(
    const std::function<void(const Share&, const ParameterRun&, int64_t offset)>& f) const {
  for (const Share& share : shares_) {
    int64_t offset = 0;
    for (const ParameterRun& run : share.own) {
      f(share, run, offset);
      offset += run.size();
    }
  }
}

double AdamW::sum_of_squares(ExecContext& ctx) const {
  std::vector<int64_t> first_blocks = {0};  // of each parameter
  for (const Parameter* parameter : parameters_)
    first_blocks.push_back(first_blocks.back() + num_blocks(parameter->value.numel()));
  std::vector<Tensor> grads;
  std::vector<int64_t> blocks;  // of these gradients, one after the other
  for_each_run([&](const Share& share, const ParameterRun& run, int64_t offset) {
    grads.push_back(gradient(share, run, offset));
    const int64_t first = first_blocks[run.parameter] + run.begin / kernels::kSumBlock;
    for (int64_t i = 0; i < num_blocks(run.size()); ++i) blocks.push_back(first + i);
  });
  const std::vector<double> squares = kernels::block_squares(ctx, grads);
  std::vector<BlockSquares> mine;
  for (size_t i = 0; i < blocks.size(); ++i) mine.push_back({blocks[i], squares[i]});
  // Each block from the rank that has it: one sum, whoever computed what.
  std::vector<double> all(static_cast<size_t>(first_blocks.back()));
  for (const std::vector<BlockSquares>& of_rank : all_gather(parallel_.comm(), mine))
    for (const BlockSquares& block : of_rank) all[static_cast<size_t>(block.block)] = block.squares;
  return std::accumulate(all.begin(), all.end(), 0.0);
}

void AdamW::throw_not_finite(ExecContext& ctx, double norm) const {
  size_t first = parameters_.size();
  for_each_run([&](const Share& share, const ParameterRun& run, int64_t offset) {
    const Tensor grad = gradient(share, run, offset);
    if (!std::isfinite(kernels::sum_of_squares(ctx, {&grad, 1})))
      first = std::min(first, run.parameter);
  });
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
      .weight_decay = static_cast<float>(config_.weight_decay),
      .bias_correction1 = static_cast<float>(1 - std::pow(config_.beta1, count)),
      .bias_correction2 = static_cast<float>(1 - std::pow(config_.beta2, count)),
  };
  if (config_.grad_clip > 0 && norm > config_.grad_clip)
    step.grad_scale = static_cast<float>(config_.grad_clip / norm);
  std::vector<kernels::AdamWRun> runs;
  for_each_run([&](const Share& share, const ParameterRun& run, int64_t offset) {
    const Parameter& p = *parameters_[run.parameter];
    const int64_t end = offset + run.size();
    runs.push_back({gradient(share, run, offset), elements(p.value, run.begin, run.end),
                    share.m.rows(offset, end), share.v.rows(offset, end), p.decays()});
  });
  kernels::adamw(ctx, step, runs);
  share_weights();

  if (parallel_.num_shards() > 1) {
    for (Share& share : shares_) share.grad_sum.fill_zero();
  } else {
    zero_gradients(ctx);
  }
  return norm;
}

void AdamW::share_weights() {
  const auto value_of = [&](size_t p) -> Tensor& { return parameters_[p]->value; };
  for (const Share& share : shares_) {
    Communicator& comm = *share.comm;
    if (comm.size() == 1) continue;
    for (int64_t window = 0; window < slices(share.holder).num_windows(); ++window) {
      std::vector<Tensor> all;
      for (int r = 0; r < comm.size(); ++r)
        all.push_back(Tensor::empty({num_elements(slices(share.holder).window(r, window))},
                                    DType::kF32, share.m.device()));
      const std::vector<ParameterRun> mine = slices(share.holder).window(comm.rank(), window);
      Tensor values = Tensor::empty({num_elements(mine)}, DType::kF32, share.m.device());
      pack(mine, value_of, values);
      all_gather(comm, values, all);
      for (int r = 0; r < comm.size(); ++r)
        if (r != comm.rank())
          unpack(all[static_cast<size_t>(r)], slices(share.holder).window(r, window), value_of);
    }
  }
}

Tensor AdamW::gather(size_t p, Tensor Share::*moment) const {
  Communicator& comm = parallel_.comm();
  const int holder = parameters_[p]->holder, size = static_cast<int>(parallel_.experts().size());
  const auto run_of = [&](int rank) -> ParameterRun {
    if (holder == Parameter::kEveryRank) return slices(holder).run(rank, p);
    return rank % size == holder ? slices(holder).run(rank / size, p) : ParameterRun{p, 0, 0};
  };
  const ParameterRun own = run_of(comm.rank());
  Tensor mine = Tensor::empty({own.size()}, DType::kF32);
  if (own.size() > 0)
    mine.copy_from((shares_[holder == Parameter::kEveryRank ? 0 : 1].*moment)
                       .rows(offsets_[p], offsets_[p] + own.size()));
  const bool is_root = comm.rank() == 0;
  std::vector<Tensor> all;
  for (int r = 0; is_root && r < comm.size(); ++r)
    all.push_back(Tensor::empty({run_of(r).size()}, DType::kF32));
  moerl::gather(comm, mine, all);
  if (!is_root) return {};
  Tensor whole = Tensor::empty(parameters_[p]->value.shape(), DType::kF32);
  for (int r = 0; r < comm.size(); ++r)
    unpack(all[static_cast<size_t>(r)], {run_of(r)}, [&](size_t) -> Tensor& { return whole; });
  return whole;
}

void AdamW::save(const std::filesystem::path& path) const {
  struct Moment {
    size_t parameter;
    Tensor Share::*tensor;
  };
  std::map<std::string, Moment> moments;  // in the order in which the writer asks for them
  for (size_t p = 0; p < parameters_.size(); ++p) {
    moments[kFirstMoment + parameters_[p]->name] = {p, &Share::m};
    moments[kSecondMoment + parameters_[p]->name] = {p, &Share::v};
  }
  if (parallel_.comm().rank() != 0) {
    for (const auto& [name, moment] : moments) gather(moment.parameter, moment.tensor);
    return;
  }
  const float steps[2] = {static_cast<float>(num_steps_ / kStepBase),
                          static_cast<float>(num_steps_ % kStepBase)};
  policy::SafetensorsWriter writer;
  writer.add(kStepName, policy::SafetensorsDtype::kF32, {2}, steps);
  Tensor values;  // of the moment that is being written
  for (const auto& [name, moment] : moments)
    writer.add(name, policy::SafetensorsDtype::kF32, parameters_[moment.parameter]->value.shape(),
               [this, &values, moment = moment] {
                 values = gather(moment.parameter, moment.tensor);
                 return std::as_bytes(
                     std::span(values.data<float>(), static_cast<size_t>(values.numel())));
               });
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
  for (Share& share : shares_) {
    HostCopy first(share.m), second(share.v);
    float *m = first.tensor().data<float>(), *v = second.tensor().data<float>();
    for (const ParameterRun& run : share.own) {
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
}

void AdamW::reset(const OptimConfig& config) {
  config_ = config;
  num_steps_ = 0;
  for (Share& share : shares_) {
    share.m.fill_zero();
    share.v.fill_zero();
  }
}

}  // namespace moerl
