#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/evaluation/results.h"

namespace moerl::eval {

struct RescoreRequest {
  std::filesystem::path from, to;  ///< folders of evaluations; `to` must hold none yet
  std::string suite;               ///< only this one; empty: all
  std::string verifier;            ///< empty: the suite's own
  reward::Options options;         ///< in place of the suite's; used if has_options
  bool has_options = false;
  TieRule tie_rule = TieRule::kAverage;
};

/// Judges the recorded responses of an evaluation anew and writes all its files to `to`.
/// @param num_threads, deadline_ms  of the verifiers.
/// @return the figures. @throws IoError; ConfigError if there is no such suite or `to` is used;
///   std::invalid_argument for an unknown verifier or option.
std::vector<Summary> rescore(const RescoreRequest& request, int num_threads, int deadline_ms);

}  // namespace moerl::eval
