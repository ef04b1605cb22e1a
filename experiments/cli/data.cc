#include <cstdio>

#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/evaluation/suite/data_cache.h"

namespace moerl::cli {
namespace {

void add_get(CLI::App& data) {
  struct Options {
    std::vector<std::string> suites;
    std::string from;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = data.add_subcommand(
      "get", "Put the file of a suite into the cache, its hash checked; says where it can be had");
  command->add_option("SUITE", options->suites, "names or .yaml files")->required();
  command->add_option("--from", options->from,
                      "the file, or a folder to search for it; moerl does not download");
  command->callback([options] {
    const eval::DataCache cache(data_folder());
    for (const std::string& name : options->suites) {
      const eval::Suite suite = eval::load_suite(name);
      if (suite.source.format == "task") {
        std::printf("%s: generated, needs no file\n", suite.name.c_str());
        continue;
      }
      const auto path = options->from.empty() || cache.has(suite) ? cache.require(suite)
                                                                  : cache.add(suite, options->from);
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
