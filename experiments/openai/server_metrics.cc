#include "experiments/openai/server_metrics.h"

#include <algorithm>

#include "common/check.h"

namespace moerl::openai {
namespace {

void head(const char* type, const std::string& name, const std::string& help, std::string& out) {
  out += concat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

template <typename Value>
void single(const char* type, const std::string& name, const std::string& help, Value value,
            std::string& out) {
  head(type, name, help, out);
  out += concat(name, " ", value, "\n");
}

}  // namespace

void Histogram::observe(double seconds) {
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
  std::lock_guard lock(mutex_);
  ++counts_[static_cast<size_t>(bucket - kBounds.begin())];
  sum_ += seconds;
}

void Histogram::render(const std::string& name, const std::string& help, std::string& out) const {
  head("histogram", name, help, out);
  std::lock_guard lock(mutex_);
  uint64_t total = 0;
  for (size_t i = 0; i < kBounds.size(); ++i) {
    total += counts_[i];
    out += concat(name, "_bucket{le=\"", kBounds[i], "\"} ", total, "\n");
  }
  total += counts_.back();
  out += concat(name, "_bucket{le=\"+Inf\"} ", total, "\n", name, "_sum ", sum_, "\n", name,
                "_count ", total, "\n");
}

void ServerMetrics::count_reply(const std::string& path, int status) {
  std::lock_guard lock(mutex_);
  ++replies_[{path, status}];
}

std::string ServerMetrics::render(const EngineStatus& engine, int64_t waiting_scores) const {
  std::string out;
  head("counter", "moerl_replies_total", "answers by path and status", out);
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, count] : replies_)
      out += concat("moerl_replies_total{path=\"", key.first, "\",status=\"", key.second, "\"} ",
                    count, "\n");
  }
  const auto gauge = [&](const char* name, const char* help, int64_t value) {
    single("gauge", name, help, value, out);
  };
  const auto counter = [&](const char* name, const char* help, auto value) {
    single("counter", name, help, value, out);
  };
  gauge("moerl_connections", "open connections", connections);
  gauge("moerl_active_requests", "requests being answered", active_requests);
  gauge("moerl_running_sequences", "sequences that the engine advances", engine.running_sequences);
  gauge("moerl_queued_sequences", "sequences that wait for the engine", engine.queued_sequences);
  gauge("moerl_waiting_scores", "prompts that wait to be scored", waiting_scores);
  gauge("moerl_kv_blocks", "blocks of the key-value cache", engine.kv_blocks_total);
  gauge("moerl_kv_blocks_free", "blocks that nothing holds", engine.kv_blocks_free);
  counter("moerl_preemptions_total", "sequences that gave their blocks up", engine.num_preemptions);
  counter("moerl_prompt_tokens_total", "tokens of answered prompts", prompt_tokens.load());
  counter("moerl_generated_tokens_total", "tokens drawn", generated_tokens.load());
  counter("moerl_clients_left_total", "clients that left before the end of their answer",
          clients_left.load());
  counter("moerl_clients_too_slow_total", "streams dropped because nobody read them",
          clients_too_slow.load());
  counter("moerl_connections_refused_total", "connections refused as too many",
          connections_refused.load());
  first_token_seconds.render("moerl_first_token_seconds",
                             "from the whole request to the first generated token", out);
  request_seconds.render("moerl_request_seconds", "from the whole request to the answer's end",
                         out);
  return out;
}

}  // namespace moerl::openai
