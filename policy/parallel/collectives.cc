#include "policy/parallel/collectives.h"

#include <cstring>

#include "kernels/norm/elementwise.h"

namespace moerl {
namespace {

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.raw(tensor.device())),
          static_cast<size_t>(tensor.bytes())};
}
std::span<std::byte> writable_bytes_of(Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.raw(tensor.device())),
          static_cast<size_t>(tensor.bytes())};
}

/// Sends the same bytes to everybody.
void send_to_all(Communicator& comm, std::span<const std::byte> bytes,
                 std::span<const std::span<std::byte>> recv) {
  comm.all_to_all_v(
      std::vector<std::span<const std::byte>>(static_cast<size_t>(comm.size()), bytes), recv);
}

/// The number that each rank gives, by rank.
std::vector<uint64_t> all_gather_number(Communicator& comm, uint64_t number) {
  std::vector<uint64_t> all(static_cast<size_t>(comm.size()));
  std::vector<std::span<std::byte>> recv;
  for (uint64_t& n : all) recv.push_back(std::as_writable_bytes(std::span(&n, 1)));
  send_to_all(comm, std::as_bytes(std::span(&number, 1)), recv);
  return all;
}

}  // namespace

void barrier(Communicator& comm) { all_gather_number(comm, 0); }

std::vector<std::string> all_gather(Communicator& comm, const std::string& bytes) {
  std::vector<std::string> all;
  std::vector<std::span<std::byte>> recv;
  for (uint64_t size : all_gather_number(comm, bytes.size())) all.emplace_back(size, '\0');
  for (std::string& part : all) recv.push_back(std::as_writable_bytes(std::span(part)));
  send_to_all(comm, std::as_bytes(std::span(bytes)), recv);
  return all;
}

std::string broadcast(Communicator& comm, const std::string& bytes, int root) {
  return all_gather(comm, comm.rank() == root ? bytes : "")[static_cast<size_t>(root)];
}

void all_gather(Communicator& comm, const Tensor& mine, std::span<Tensor> all) {
  std::vector<std::span<std::byte>> recv;
  for (Tensor& part : all) recv.push_back(writable_bytes_of(part));
  send_to_all(on_device(comm, mine.device()), bytes_of(mine), recv);
}

void gather(Communicator& comm, const Tensor& mine, std::span<Tensor> all, int root) {
  std::vector<std::span<const std::byte>> send(static_cast<size_t>(comm.size()));
  std::vector<std::span<std::byte>> recv(static_cast<size_t>(comm.size()));
  send[static_cast<size_t>(root)] = bytes_of(mine);
  for (size_t r = 0; r < all.size(); ++r) recv[r] = writable_bytes_of(all[r]);
  on_device(comm, mine.device()).all_to_all_v(send, recv);
}

void reduce_scatter(ExecContext& ctx, Communicator& comm, std::span<const Tensor> parts,
                    Tensor& sum, int64_t num_summands) {
  std::vector<Tensor> received;
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> recv;
  for (const Tensor& part : parts) {
    send.push_back(bytes_of(part));
    received.push_back(ctx.empty({num_summands * sum.numel()}, DType::kF32));
    recv.push_back(writable_bytes_of(received.back()));
  }
  on_device(comm, sum.device()).all_to_all_v(send, recv);
  for (const Tensor& part : received)
    for (int64_t i = 0; i < num_summands; ++i)
      kernels::add_inplace(ctx, part.rows(i * sum.numel(), (i + 1) * sum.numel()), sum);
}

}  // namespace moerl
