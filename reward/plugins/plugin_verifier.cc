#include "reward/plugins/plugin_verifier.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "common/check.h"
#include "common/error.h"
#include "common/json.h"
#include "embedded/python_worker.h"
#include "reward/plugins/plugin_json.h"

namespace moerl::reward {
namespace {

using Clock = PluginProcess::Clock;

bool can_run(const std::string& file) {
  return std::filesystem::is_regular_file(file) && ::access(file.c_str(), X_OK) == 0;
}

/// @throws PluginFailure if there is no such program to run.
void require_program(const std::string& program) {
  if (program.find('/') != std::string::npos) {
    if (can_run(program)) return;
    throw PluginFailure(concat("'", program, "' is no program that can be run"));
  }
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "/usr/bin:/bin" : path);
  for (std::string folder; std::getline(folders, folder, ':');)
    if (can_run(folder + "/" + program)) return;
  throw PluginFailure(concat("there is no program '", program, "' in PATH"));
}

/// A little before the end of the budget, so that the process is cut here, with its reason, and not
/// by whoever watches the budget.
Clock::time_point cut_before(const WorkBudget& budget, size_t num_shares) {
  const Clock::duration left = budget.remaining() / num_shares;
  return Clock::now() + left - left / 20;
}

}  // namespace

PluginConfig python_plugin(const std::string& name, const std::string& path) {
  const size_t colon = path.rfind(':');
  const bool has_function = colon != std::string::npos && path.find('/', colon) == path.npos;
  return {.name = name,
          .description = "python reward " + path,
          .command = {"python3", "-u", "-c", kPythonWorker, path.substr(0, colon),
                      has_function ? path.substr(colon + 1) : ""},
          .speaks_batches = true};
}

PluginConfig library_plugin(const std::string& name, const std::string& path,
                            const std::string& host) {
  return {.name = name,
          .description = "library reward " + path,
          .command = {host, "plugin-host", path},
          .speaks_batches = true};
}

PluginConfig command_plugin(const std::string& name, const std::string& command) {
  PluginConfig config{.name = name, .description = "command reward " + command};
  std::istringstream words(command);
  for (std::string word; words >> word;) config.command.push_back(word);
  check(!config.command.empty(), "plug-in '", name, "': the command is empty");
  return config;
}

PluginVerifier::PluginVerifier(PluginConfig config) : config_(std::move(config)) {
  try {
    idle_.push_back(take_process());
  } catch (const std::runtime_error& error) {
    throw ConfigError(concat("reward plug-in '", config_.name, "' (", config_.description,
                             ") cannot be started: ", error.what()));
  }
}

PluginVerifier::~PluginVerifier() = default;

std::unique_ptr<PluginProcess> PluginVerifier::take_process() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<PluginProcess> process = std::move(idle_.back());
      idle_.pop_back();
      return process;
    }
  }
  require_program(config_.command.front());
  auto process = std::make_unique<PluginProcess>(config_.command);
  if (!config_.speaks_batches) return process;
  const std::string line =
      process->exchange("", 1, Clock::now() + config_.start_timeout, {}).front();
  const auto hello = try_parse_json(line);
  if (hello.is_object() && hello.contains("error") && hello["error"].is_string())
    throw PluginFailure(hello["error"].get<std::string>());
  if (!hello.is_object() || !hello.contains("ready"))
    throw PluginFailure("its first line is '" + line.substr(0, 200) +
                        R"(', expected {"ready": true})");
  return process;
}

Verdict PluginVerifier::failed(VerdictStatus status, std::string detail) const {
  return {.status = status,
          .parts = {{config_.name, 0}},
          .detail = concat("reward plug-in '", config_.name, "': ", std::move(detail))};
}

/// One attempt on a process that is its own as long as it works.
std::vector<Verdict> PluginVerifier::call(const std::vector<const Sample*>& samples,
                                          const Options& options, Clock::time_point deadline,
                                          const std::stop_token& stop) const {
  std::unique_ptr<PluginProcess> process = take_process();
  std::string request;
  if (config_.speaks_batches)
    request = batch_to_json(samples, options) + "\n";
  else
    for (size_t i = 0; i < samples.size(); ++i)
      request += sample_to_json(*samples[i], options, i) + "\n";
  const std::vector<std::string> lines =
      process->exchange(request, config_.speaks_batches ? 1 : samples.size(), deadline, stop);

  std::vector<Verdict> verdicts;
  if (config_.speaks_batches) {
    verdicts = batch_from_json(config_.name, lines.front(), samples.size());
  } else {
    for (size_t i = 0; i < samples.size(); ++i)
      verdicts.push_back(verdict_from_json(config_.name, lines[i], i));
  }
  for (Verdict& verdict : verdicts)
    if (verdict.status == VerdictStatus::kInternalError)
      verdict = failed(verdict.status, verdict.detail);
  // Only a process that has kept to the protocol is used again.
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(process));
  return verdicts;
}

Verdict PluginVerifier::score(const Sample& sample, const Options& options,
                              const WorkBudget& budget) const {
  const Clock::time_point deadline = cut_before(budget, 1);
  for (int attempt = 1;; ++attempt) {
    try {
      return call({&sample}, options, deadline, budget.stop()).front();
    } catch (const PluginTimeout& error) {
      if (budget.stop().stop_requested()) throw WorkBudgetSpent();
      return failed(VerdictStatus::kTimeout, error.what());
    } catch (const PluginFailure& error) {
      // The death may be another's doing, such as a want of memory; the second is its own.
      if (attempt == 2) return failed(VerdictStatus::kInternalError, error.what());
    } catch (const std::exception& error) {
      return failed(VerdictStatus::kInternalError, error.what());
    }
  }
}

std::vector<Verdict> PluginVerifier::score_batch(const std::vector<const Sample*>& samples,
                                                 const Options& options,
                                                 const WorkBudget& budget) const {
  std::vector<Verdict> verdicts;
  if (samples.size() > 1) {
    try {
      return call(samples, options, cut_before(budget, samples.size() + 1), budget.stop());
    } catch (const std::exception&) {
      if (budget.stop().stop_requested()) throw WorkBudgetSpent();
    }
  }
  for (size_t i = 0; i < samples.size(); ++i)
    verdicts.push_back(score(*samples[i], options, budget.share(samples.size() - i)));
  return verdicts;
}

}  // namespace moerl::reward
