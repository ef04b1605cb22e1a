#include "reward/composite/verifier_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moerl::reward {

void VerifierStatistics::add(const std::string& verifier, double latency_s, VerdictStatus status) {
  const std::lock_guard lock(mutex_);
  Calls& calls = by_verifier_[verifier];
  calls.latencies_s.push_back(latency_s);
  calls.num_timeouts += status == VerdictStatus::kTimeout;
}

std::map<std::string, double> VerifierStatistics::take_metrics() {
  std::map<std::string, Calls> by_verifier;
  {
    const std::lock_guard lock(mutex_);
    by_verifier.swap(by_verifier_);
  }
  std::map<std::string, double> metrics;
  for (auto& [verifier, calls] : by_verifier) {
    std::vector<double>& latencies = calls.latencies_s;
    std::sort(latencies.begin(), latencies.end());
    const auto count = static_cast<double>(latencies.size());
    const std::string name = "reward/" + verifier + "/";
    metrics[name + "latency_s/mean"] =
        std::accumulate(latencies.begin(), latencies.end(), 0.0) / count;
    metrics[name + "latency_s/p95"] = latencies[static_cast<size_t>(std::ceil(0.95 * count)) - 1];
    metrics[name + "latency_s/max"] = latencies.back();
    metrics[name + "timeout_ratio"] = calls.num_timeouts / count;
  }
  return metrics;
}

}  // namespace moerl::reward
