#pragma once
// Recorded figures that metrics are compared with.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/json.h"
#include "testing/paths.h"

namespace moerl::testing {

/// What scipy and numpy say; tests/golden/statistics_golden.py.
inline const nlohmann::json& statistics_golden() {
  static const nlohmann::json root =
      parse_json(read_file(MOERL_SOURCE_DIR "/tests/golden/statistics_golden.json"));
  return root;
}

/// Cases from peers' own tests, beside the checkout; not everyone has them.
inline std::string metric_cases_path() {
  return MOERL_SOURCE_DIR "/../shared/data/reward_cases/metric_cases.jsonl";
}
/// Those of one kind, or all; none if there is no file.
inline std::vector<nlohmann::json> metric_cases(const std::string& kind = {}) {
  std::vector<nlohmann::json> cases;
  std::ifstream file(metric_cases_path());
  for (std::string line; std::getline(file, line);) {
    nlohmann::json parsed = parse_json(line);
    if (kind.empty() || parsed.at("kind") == kind) cases.push_back(std::move(parsed));
  }
  return cases;
}

}  // namespace moerl::testing
