#include "policy/parallel/expert_parallel.h"

#include <algorithm>

#include "common/error.h"
#include "policy/host_copy.h"
#include "policy/parallel/collectives.h"
#include "policy/parallel/sub_communicator.h"

namespace moerl {
namespace {

std::shared_ptr<Communicator> members(Communicator& comm, int64_t first, int64_t count,
                                      int64_t stride) {
  std::vector<int> ranks;
  for (int64_t i = 0; i < count; ++i) ranks.push_back(static_cast<int>(first + i * stride));
  return std::make_shared<SubCommunicator>(comm, std::move(ranks));
}

int64_t sum(const std::vector<int64_t>& values) {
  int64_t total = 0;
  for (int64_t value : values) total += value;
  return total;
}

/// Rows for each rank, one rank's after the other's, against those that each rank has for this one.
Tensor exchange(Communicator& comm, const Tensor& rows, const std::vector<int64_t>& sent,
                const std::vector<int64_t>& received) {
  check(rows.dim(0) == sum(sent), "ExpertParallel: ", rows.dim(0), " rows, the routes have ",
        sum(sent));
  Tensor out = Tensor::empty({sum(received), rows.dim(1)}, rows.dtype(), rows.device());
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> recv;
  const auto row_bytes = static_cast<size_t>(rows.dim(1) * dtype_size(rows.dtype()));
  const auto* from = static_cast<const std::byte*>(rows.raw(rows.device()));
  auto* to = static_cast<std::byte*>(out.raw(out.device()));
  for (size_t r = 0; r < sent.size(); ++r) {
    send.emplace_back(from, static_cast<size_t>(sent[r]) * row_bytes);
    recv.emplace_back(to, static_cast<size_t>(received[r]) * row_bytes);
    from += send.back().size();
    to += recv.back().size();
  }
  on_device(comm, rows.device()).all_to_all_v(send, recv);
  return out;
}

}  // namespace

ExpertParallel::ExpertParallel() : ExpertParallel(single_process(), 1) {}

ExpertParallel::ExpertParallel(Communicator& comm, int64_t size) : comm_(&comm), size_(size) {
  check_ranks(comm.size(), size);
  const int64_t position = comm.rank() % size;
  group_ = members(comm, comm.rank() - position, size, 1);
  replicas_ = members(comm, position, comm.size() / size, size);
}

void ExpertParallel::check_ranks(int num_ranks, int64_t size) {
  if (num_ranks % size != 0)
    throw ConfigError(
        concat(num_ranks, num_ranks == 1 ? " rank was" : " ranks were",
               " launched, expected a multiple of parallel.expert_parallel_size = ", size));
}

void ExpertParallel::check_experts(int64_t num_experts, int64_t size) {
  if (size > 1 && (num_experts == 0 || num_experts % size != 0))
    throw ConfigError(concat("the model has ", num_experts, " routed experts, expected a multiple ",
                             "of parallel.expert_parallel_size = ", size));
}

int64_t ExpertParallel::num_own(int64_t num_experts) const {
  check_experts(num_experts, size_);
  return num_experts / size_;
}

Tensor ExpertParallel::on_first_rank(const Parameter& parameter) const {
  const bool is_first = comm_->rank() == 0;
  if (parameter.holder <= 0)  // every rank has it, or rank 0
    return is_first ? parameter.value.to(Device::kCpu) : Tensor();
  const int64_t n = parameter.value.numel();
  std::vector<Tensor> all;
  for (int r = 0; is_first && r < comm_->size(); ++r)
    all.push_back(Tensor::empty({r == parameter.holder ? n : 0}, DType::kF32));
  gather(*comm_,
         comm_->rank() == parameter.holder ? parameter.value.to(Device::kCpu).view({n})
                                           : Tensor::empty({0}, DType::kF32),
         all);
  return is_first ? all[static_cast<size_t>(parameter.holder)].view(parameter.value.shape())
                  : Tensor();
}

int64_t ExpertParallel::passes(int64_t mine) const {
  if (size_ == 1) return mine;
  int64_t most = 0;
  for (const std::vector<int64_t>& of_rank : all_gather(*comm_, std::vector{mine}))
    most = std::max(most, of_rank[0]);
  return most;
}

ExpertRoutes ExpertParallel::route(ExecContext& ctx, const Tensor& offsets) const {
  if (size_ == 1) return {offsets, {}, {}};
  const int64_t own = num_own(offsets.numel() - 1);
  const auto ranks = static_cast<size_t>(size_);
  // Rows of each expert, sorted by the rank that holds it: to, and from, each rank of the group.
  Tensor counts = Tensor::empty({size_ * own, 1}, DType::kI64);
  const Tensor on_host = offsets.to(Device::kCpu);
  const int64_t* begin = on_host.data<int64_t>();
  for (int64_t e = 0; e < size_ * own; ++e) counts.data<int64_t>()[e] = begin[e + 1] - begin[e];
  const std::vector<int64_t> each(ranks, own);
  const Tensor here = exchange(*group_, counts, each, each);

  ExpertRoutes routes{ctx.empty({size_ * own + 1}, DType::kI64), std::vector<int64_t>(ranks),
                      std::vector<int64_t>(ranks)};
  HostCopy first_rows(routes.offsets);
  int64_t* offset = first_rows.tensor().data<int64_t>();
  offset[0] = 0;
  for (int64_t i = 0; i < size_ * own; ++i) {
    const auto rank = static_cast<size_t>(i / own);
    routes.sent[rank] += counts.data<int64_t>()[i];
    routes.received[rank] += here.data<int64_t>()[i];
    offset[i + 1] = offset[i] + here.data<int64_t>()[i];
  }
  first_rows.write_back();
  return routes;
}

Tensor ExpertParallel::dispatch(const ExpertRoutes& routes, const Tensor& rows) const {
  return size_ == 1 ? rows : exchange(*group_, rows, routes.sent, routes.received);
}

Tensor ExpertParallel::combine(const ExpertRoutes& routes, const Tensor& rows) const {
  return size_ == 1 ? rows : exchange(*group_, rows, routes.received, routes.sent);
}

}  // namespace moerl
