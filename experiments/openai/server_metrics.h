#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "rollout/engine.h"

namespace moerl::openai {

/// Observations in buckets of upper bounds, as Prometheus counts them. Thread safe.
class Histogram {
 public:
  void observe(double seconds);
  void render(const std::string& name, const std::string& help, std::string& out) const;

 private:
  static constexpr std::array kBounds = {0.005, 0.01, 0.025, 0.05, 0.1,  0.25, 0.5,
                                         1.0,   2.5,  5.0,   10.0, 30.0, 60.0, 300.0};
  mutable std::mutex mutex_;
  std::array<uint64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

/// What /metrics tells. Thread safe.
struct ServerMetrics {
  /// @param path  one of the server's own; others count as "other", so that clients cannot make
  ///   names.
  void count_reply(const std::string& path, int status);

  std::atomic<int64_t> connections{0};      ///< open
  std::atomic<int64_t> active_requests{0};  ///< being answered
  std::atomic<uint64_t> prompt_tokens{0}, generated_tokens{0};
  std::atomic<uint64_t> clients_left{0};      ///< before the end of their answer
  std::atomic<uint64_t> clients_too_slow{0};  ///< dropped
  std::atomic<uint64_t> connections_refused{0};
  Histogram first_token_seconds, request_seconds;

  /// Text format 0.0.4 of Prometheus.
  std::string render(const EngineStatus& engine, int64_t waiting_scores) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> replies_;  // guarded by mutex_
};

}  // namespace moerl::openai
