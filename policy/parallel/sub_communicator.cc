#include "policy/parallel/sub_communicator.h"

#include <algorithm>

#include "common/check.h"

namespace moerl {

SubCommunicator::SubCommunicator(Communicator& whole, std::vector<int> members)
    : whole_(whole), members_(std::move(members)) {
  const auto own = std::find(members_.begin(), members_.end(), whole.rank());
  check(own != members_.end() && std::is_sorted(members_.begin(), members_.end()) &&
            members_.front() >= 0 && members_.back() < whole.size(),
        "SubCommunicator: the members are not ascending ranks with rank ", whole.rank(),
        " among them");
  rank_ = static_cast<int>(own - members_.begin());
}

void SubCommunicator::all_to_all_v(std::span<const std::span<const std::byte>> send,
                                   std::span<const std::span<std::byte>> recv) {
  check(send.size() == members_.size() && recv.size() == members_.size(),
        "all_to_all_v: ", send.size(), " parts to send, ", recv.size(), " to receive, expected ",
        members_.size());
  const auto n = static_cast<size_t>(whole_.size());
  std::vector<std::span<const std::byte>> all_send(n);  // nothing for those outside
  std::vector<std::span<std::byte>> all_recv(n);
  for (size_t i = 0; i < members_.size(); ++i) {
    all_send[static_cast<size_t>(members_[i])] = send[i];
    all_recv[static_cast<size_t>(members_[i])] = recv[i];
  }
  whole_.all_to_all_v(all_send, all_recv);
}

}  // namespace moerl
