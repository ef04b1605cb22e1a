#include "policy/parallel/staged_communicator.h"

#include <vector>

#include "common/check.h"
#include "kernels/cuda/backend.h"

namespace moerl {

void StagedCommunicator::all_to_all_v(std::span<const std::span<const std::byte>> send,
                                      std::span<const std::span<std::byte>> recv) {
  const auto n = static_cast<size_t>(size()), self = static_cast<size_t>(rank());
  check(send.size() == n && recv.size() == n, "all_to_all_v: ", send.size(), " parts to send, ",
        recv.size(), " to receive, expected ", n);
  check(send[self].size() == recv[self].size(), "all_to_all_v: rank ", rank(), " sends itself ",
        send[self].size(), " bytes and expects ", recv[self].size());
  const kernels::DeviceMemoryCuda& device = kernels::device_memory();
  std::vector<std::vector<std::byte>> sent(n), received(n);
  std::vector<std::span<const std::byte>> host_send(n);
  std::vector<std::span<std::byte>> host_recv(n);
  for (size_t r = 0; r < n; ++r) {
    if (r == self) continue;
    sent[r].resize(send[r].size());
    received[r].resize(recv[r].size());
    if (!send[r].empty()) device.copy_to_host(sent[r].data(), send[r].data(), send[r].size());
    host_send[r] = sent[r];
    host_recv[r] = received[r];
  }
  if (!send[self].empty())
    device.copy_on_device(recv[self].data(), send[self].data(), send[self].size());
  host_.all_to_all_v(host_send, host_recv);
  for (size_t r = 0; r < n; ++r)
    if (!received[r].empty())
      device.copy_to_device(recv[r].data(), received[r].data(), received[r].size());
}

}  // namespace moerl
