#include "experiments/cli/commands.h"
#include "reward/plugins/library_host.h"

namespace moerl::cli {

void add_plugin_host(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("plugin-host", "The process of a library plug-in");
  command->group("");  // started by the reward service, not by people
  command->add_option("LIBRARY", *path)->required();
  command->callback([path] {
    if (const int code = reward::run_library_host(*path); code != 0) throw CLI::RuntimeError(code);
  });
}

}  // namespace moerl::cli
