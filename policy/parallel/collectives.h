#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/exec_context.h"
#include "policy/parallel/communicator.h"

namespace moerl {

// Every function is called by all ranks, with arguments that agree in what is said of them. The
// tensors of a call lie on one device.

/// Returns when every rank has come here.
void barrier(Communicator& comm);

/// The bytes of `root`, on every rank. @param bytes  ignored elsewhere.
std::string broadcast(Communicator& comm, const std::string& bytes, int root = 0);

/// What each rank gives, by rank; lengths may differ.
std::vector<std::string> all_gather(Communicator& comm, const std::string& bytes);

/// The same for numbers.
template <typename T>
std::vector<std::vector<T>> all_gather(Communicator& comm, const std::vector<T>& values) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<std::vector<T>> all;
  for (const std::string& bytes : all_gather(
           comm,
           std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)))) {
    std::vector<T>& part = all.emplace_back(bytes.size() / sizeof(T));
    bytes.copy(reinterpret_cast<char*>(part.data()), bytes.size());
  }
  return all;
}

/// Every rank's `mine`, by rank, into `all`.
/// @param all  [size()], each as large as that rank's `mine`. @param mine  not part of `all`.
void all_gather(Communicator& comm, const Tensor& mine, std::span<Tensor> all);

/// The parts for `root` of all ranks, by rank, into `all` there. @param all  empty elsewhere.
void gather(Communicator& comm, const Tensor& mine, std::span<Tensor> all, int root = 0);

/// sum += parts of rank 0, then of rank 1, and so on: one order of additions, whatever the network
/// does, so that the bits are a function of the parts alone.
/// @param parts  [size()] fp32: parts[r] is what this rank has for rank r: num_summands parts as
///   large as `sum` is there, one after the other, added in this order.
/// @param sum    fp32; accumulated.
void reduce_scatter(ExecContext& ctx, Communicator& comm, std::span<const Tensor> parts,
                    Tensor& sum, int64_t num_summands = 1);

}  // namespace moerl
