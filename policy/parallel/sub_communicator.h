#pragma once
#include <vector>

#include "policy/parallel/communicator.h"

namespace moerl {

/// Some ranks of a communicator as one of their own. Every rank of the whole is in one such group,
/// and all ranks make the same calls together: the groups exchange side by side.
class SubCommunicator final : public Communicator {
 public:
  /// @param whole  borrowed. @param members  its ranks that belong to this group, ascending, the
  ///   own one among them: rank i here is members[i] there.
  SubCommunicator(Communicator& whole, std::vector<int> members);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  void all_to_all_v(std::span<const std::span<const std::byte>> send,
                    std::span<const std::span<std::byte>> recv) override;
  /// Ends all ranks of the whole.
  void abort(const std::string& reason) override { whole_.abort(reason); }

 protected:
  std::unique_ptr<Communicator> make_on_cuda() override {
    return std::make_unique<SubCommunicator>(on_device(whole_, Device::kCuda), members_);
  }

 private:
  Communicator& whole_;
  std::vector<int> members_;
  int rank_;
};

}  // namespace moerl
