#pragma once
#include "policy/parallel/communicator.h"

namespace moerl {

/// Exchanges memory of kCuda by way of main memory, over any communicator.
class StagedCommunicator final : public Communicator {
 public:
  /// @param host  of main memory; borrowed.
  explicit StagedCommunicator(Communicator& host) : host_(host) {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  void all_to_all_v(std::span<const std::span<const std::byte>> send,
                    std::span<const std::span<std::byte>> recv) override;
  void abort(const std::string& reason) override { host_.abort(reason); }

 private:
  Communicator& host_;
};

}  // namespace moerl
