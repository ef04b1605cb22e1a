#pragma once
#include <CLI/CLI.hpp>
#include <functional>

namespace moerl::cli {

/// Each adds one sub-command to the program. Its callback does the work and throws on failure; an
/// exit status other than 0 or 1 is thrown as CLI::RuntimeError.
void add_train(CLI::App& app);
void add_check(CLI::App& app);
void add_export(CLI::App& app);
void add_judge(CLI::App& app);
void add_score(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_sample(CLI::App& app);
void add_eval(CLI::App& app);
void add_data(CLI::App& app);
void add_serve(CLI::App& app);
void add_doctor(CLI::App& app);
void add_bench(CLI::App& app);
void add_plugin_host(CLI::App& app);

}  // namespace moerl::cli
