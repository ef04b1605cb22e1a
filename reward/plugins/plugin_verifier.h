#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "reward/plugins/plugin_process.h"
#include "reward/verifier.h"

namespace moerl::reward {

/// How a plug-in's process is spoken to.
struct PluginConfig {
  /// Name of the verifier.
  std::string name;
  /// For people: what the plug-in is, such as "python my_reward.py".
  std::string description;
  /// Program and arguments.
  std::vector<std::string> command;
  /// The process says {"ready": true} first, and a line holds the JSON list of a whole batch; else
  /// a line is one sample and one answer.
  bool speaks_batches = false;
  /// Samples of one batch; >= 1.
  size_t max_batch_size = 64;
  /// Time to become ready.
  std::chrono::milliseconds start_timeout{120'000};
};

/// A Python reward: `path` is file.py or file.py:function. See reward/plugins/README.md.
PluginConfig python_plugin(const std::string& name, const std::string& path);
/// A shared library with the functions of moerl_reward.h.
/// @param host  the moerl program, which loads the library in a process of its own.
PluginConfig library_plugin(const std::string& name, const std::string& path,
                            const std::string& host);
/// A program that answers JSON lines. @param command  words separated by spaces; no shell.
PluginConfig command_plugin(const std::string& name, const std::string& command);

/// A verifier in child processes: one for each thread that judges at the same time, started when it
/// is needed, killed at the deadline and started again.
///
/// An answer is a number, the score; or an object with `score` and, if wanted, `status` (a
/// status_name), `extracted`, `detail`, `parts`, and further numbers, which become parts; or null,
/// or an object with `none`: the reward does not apply to this row (kGoldError). Without `status`
/// the sample is correct if `acc` or, lacking that, the score is at least 1.
///
/// What is not such an answer (no number, NaN, too few or too many answers, an exception, the death
/// of the process) is kInternalError with the reason: the sample is unscorable, never worth 0. When
/// a batch fails, its samples are tried one by one, so only the one that is to blame pays; a single
/// sample is tried twice before its process's death is its verdict.
class PluginVerifier final : public Verifier {
 public:
  /// Starts the first process. @throws ConfigError naming the plug-in if it does not become ready.
  explicit PluginVerifier(PluginConfig config);
  ~PluginVerifier() override;

  std::string_view name() const override { return config_.name; }
  std::string_view description() const override { return config_.description; }
  std::vector<std::string> part_names() const override { return {config_.name}; }
  SampleNeeds needs() const override { return {.token_ids = true}; }
  void check_options(const Options&) const override {}
  size_t max_batch_size() const override { return config_.max_batch_size; }
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
  std::vector<Verdict> score_batch(const std::vector<const Sample*>& samples,
                                   const Options& options, const WorkBudget& budget) const override;

 private:
  std::unique_ptr<PluginProcess> take_process() const;
  std::vector<Verdict> call(const std::vector<const Sample*>& samples, const Options& options,
                            PluginProcess::Clock::time_point deadline,
                            const std::stop_token& stop) const;
  Verdict failed(VerdictStatus status, std::string detail) const;

  const PluginConfig config_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<PluginProcess>> idle_;
};

}  // namespace moerl::reward
