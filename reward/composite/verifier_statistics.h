#pragma once
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "reward/verdict.h"

namespace moerl::reward {

/// What calls of each verifier took. Thread safety: all methods.
class VerifierStatistics {
 public:
  /// @param latency_s  from the request to the verdict: queues, network and retries included.
  void add(const std::string& verifier, double latency_s, VerdictStatus status);

  /// By verifier V: reward/V/latency_s/mean, p95 (the smallest latency that at least 95 % of the
  /// calls do not exceed) and max, and reward/V/timeout_ratio. Forgets what was added.
  std::map<std::string, double> take_metrics();

 private:
  struct Calls {
    std::vector<double> latencies_s;
    double num_timeouts = 0;
  };
  std::mutex mutex_;
  std::map<std::string, Calls> by_verifier_;
};

}  // namespace moerl::reward
