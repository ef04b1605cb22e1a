#pragma once
#include <CLI/CLI.hpp>

namespace moerl::cli {

/// Adds `moerl serve openai` to the command `serve`.
void add_serve_openai(CLI::App& serve);

}  // namespace moerl::cli
