#include "experiments/cli/environment.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>

#include "common/check.h"
#include "experiments/model_source.h"

namespace moerl::cli {

Isa isa_from_environment() {
  const char* name = std::getenv("MOERL_ISA");
  return name == nullptr || *name == '\0' ? detect_isa() : parse_isa(name);
}

std::filesystem::path data_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value == nullptr ? "" : value);
  };
  if (const auto folder = variable("MOERL_DATA"); !folder.empty()) return folder;
  if (const auto cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache / "moerl/data";
  const auto home = variable("HOME");
  if (home.empty()) throw ConfigError("set MOERL_DATA: there is no HOME for the data cache");
  return home / ".cache/moerl/data";
}

bool cublaslt_is_wanted() {
  const char* value = std::getenv("MOERL_CUBLASLT");
  const std::string text = value == nullptr ? "" : value;
  if (text != "" && text != "0" && text != "1")
    throw ConfigError(concat("MOERL_CUBLASLT is '", text, "', expected 0 or 1"));
  return text != "0";
}

int launched_ranks() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (const char* value = std::getenv(name); value != nullptr)
      return std::max(std::atoi(value), 1);
  return 1;
}

int num_threads(int64_t requested) {
  if (requested > 0) return static_cast<int>(requested);
  cpu_set_t cores;
  if (::sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
  return CPU_COUNT(&cores);
}

ExecContext make_context(int64_t threads, const std::string& device) {
  return ExecContext(num_threads(threads), isa_from_environment(), parse_device(device));
}

void add_compute_options(CLI::App& command, int64_t& threads, std::string& device) {
  command.add_option("--threads", threads, "[all cores]")->check(CLI::NonNegativeNumber);
  command.add_option("--device", device, "cpu or cuda [cpu]")
      ->check(CLI::IsMember({"cpu", "cuda"}));
}

// Blocked before any thread starts, so that every thread inherits the mask and only wait() sees the
// signal.
SignalWaiter::SignalWaiter() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

void SignalWaiter::wait() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  int signal = 0;
  ::sigwait(&set, &signal);
}

}  // namespace moerl::cli
