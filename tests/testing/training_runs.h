#pragma once
// Runs of the moerl program, and whether two of them are the same run.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "common/json.h"
#include "tests/testing/child_process.h"

namespace moerl::testing {

std::filesystem::path moerl_program();
/// The countdown recipe in miniature.
std::string tiny_recipe();

Outcome run_moerl(const Arguments& arguments, const Environment& environment = {},
                  const std::string& input = {});
Arguments train_arguments(const std::filesystem::path& run_directory,
                          const Arguments& overrides = {},
                          const std::string& recipe = tiny_recipe());

/// What a finished run has left: all of it that is a function of recipe, seed and weights.
struct RunResult {
  std::vector<nlohmann::json> metrics;    ///< without timing_s/, perf/ and latencies
  std::vector<std::string> samples;       ///< rows of samples.sqlite as text, blobs in hexadecimal
  std::string weights, optimizer, state;  ///< files of the last checkpoint
};

std::vector<nlohmann::json> read_metrics(const std::filesystem::path& run_directory);

std::vector<std::string> read_samples(const std::filesystem::path& run_directory);

/// The newest complete one.
std::filesystem::path last_checkpoint(const std::filesystem::path& run_directory);

RunResult read_run(const std::filesystem::path& run_directory);

/// Trains to the end and returns what is left; a failed run fails the test.
RunResult train(const std::filesystem::path& run_directory, const Arguments& overrides = {},
                const Environment& environment = {}, const std::string& recipe = tiny_recipe());

/// Whether all lines, rows and bits agree; otherwise says where they first do not.
::testing::AssertionResult same_run(const RunResult& a, const RunResult& b);

}  // namespace moerl::testing
