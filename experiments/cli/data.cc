#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/evaluation/suite/data_cache.h"
#include "experiments/progress.h"

namespace moerl::cli {
namespace {

std::filesystem::path get(const eval::DataCache& cache, const eval::Suite& suite) {
  Progress progress(::isatty(STDERR_FILENO) == 1);
  const auto mib = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  return cache.get(suite, {}, [&](int64_t done, int64_t total) {
    char text[64];
    std::snprintf(text, sizeof text, "%.1f of %.1f MiB", mib(done), mib(std::max(done, total)));
    progress.update(suite.name + " " + text);
  });
}

void add_get(CLI::App& data) {
  struct Options {
    std::vector<std::string> suites;
    std::string from;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      data.add_subcommand("get", "Download the file of a suite into the cache, its hash checked");
  command->add_option("SUITE", options->suites, "names or .yaml files")->required();
  command->add_option("--from", options->from,
                      "the file, or a folder to search for it, in place of the network");
  command->callback([options] {
    const eval::DataCache cache(data_folder());
    for (const std::string& name : options->suites) {
      const eval::Suite suite = eval::load_suite(name);
      if (suite.source.format == "task") {
        std::printf("%s: generated, needs no file\n", suite.name.c_str());
        continue;
      }
      const bool is_download = options->from.empty() || cache.has(suite);
      const auto path = is_download ? get(cache, suite) : cache.add(suite, options->from);
      std::printf("%s: %s\n", suite.name.c_str(), path.c_str());
    }
  });
}

void add_list(CLI::App& data) {
  CLI::App* command = data.add_subcommand("list", "The suites, and which of their files are here");
  command->callback([] {
    const eval::DataCache cache(data_folder());
    for (const std::string& name : eval::suite_names()) {
      const eval::Suite suite = eval::load_suite(name);
      const bool needs_none = suite.source.format == "task";
      std::printf("%-22s %-10s %s\n", name.c_str(),
                  needs_none ? "generated" : (cache.has(suite) ? "here" : "missing"),
                  suite.description.c_str());
    }
    std::printf("cache: %s\n", data_folder().c_str());
  });
}

}  // namespace

void add_data(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Files of evaluation suites");
  data->require_subcommand(1);
  add_get(*data);
  add_list(*data);
  data->footer("Cache: $MOERL_DATA, else $XDG_CACHE_HOME/moerl/data, else ~/.cache/moerl/data.");
}

}  // namespace moerl::cli
