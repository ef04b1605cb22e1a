#pragma once
// A reward server that does not keep to reward.proto.
#include <atomic>
#include <limits>
#include <string>

#include "common/rpc/server.h"
#include "moerl/v1/reward.grpc.pb.h"

namespace moerl::testing {

enum class Garbage {
  kUnknownIds,  ///< verdicts on items that nobody sent
  kNan,         ///< a score of NaN for every item
  kNoStatus,    ///< verdicts without a status
  kTooFew,      ///< ends the call after the first item, without a verdict on it
  kSilent,      ///< reads and never answers
};

class GarbageRewardServer {
 public:
  explicit GarbageRewardServer(Garbage garbage)
      : service_(garbage), server_({&service_}, "127.0.0.1:0") {}
  ~GarbageRewardServer() { server_.shutdown(0); }

  std::string address() const { return "127.0.0.1:" + std::to_string(server_.port()); }
  /// Items that it was sent.
  int num_items() const { return service_.num_items; }

 private:
  struct Service final : v1::RewardService::Service {
    explicit Service(Garbage g) : garbage(g) {}

    grpc::Status ScoreStream(
        grpc::ServerContext*,
        grpc::ServerReaderWriter<v1::Verdict, v1::ScoreItem>* stream) override {
      for (v1::ScoreItem item; stream->Read(&item);) {
        ++num_items;
        v1::Verdict verdict;
        verdict.set_id(item.id());
        verdict.set_score(1);
        verdict.set_status(v1::VERDICT_STATUS_CORRECT);
        if (garbage == Garbage::kTooFew) return grpc::Status::OK;
        if (garbage == Garbage::kSilent) continue;
        if (garbage == Garbage::kUnknownIds) verdict.set_id(item.id() + 1'000'000);
        if (garbage == Garbage::kNan) verdict.set_score(std::numeric_limits<double>::quiet_NaN());
        if (garbage == Garbage::kNoStatus) verdict.clear_status();
        stream->Write(verdict);
      }
      return grpc::Status::OK;
    }

    const Garbage garbage;
    std::atomic<int> num_items{0};
  };

  Service service_;
  rpc::Server server_;
};

}  // namespace moerl::testing
