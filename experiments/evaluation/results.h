#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "experiments/evaluation/records/eval_directory.h"
#include "experiments/evaluation/summary.h"
#include "reward/verifier_registry.h"

namespace moerl::eval {

/// What an evaluation was asked for; the content of eval.json.
struct SuiteSettings {
  std::string suite, description, data_sha256, prompt, system, verifier;
  int verifier_version = reward::kVerdictsVersion;  ///< that of the verdicts in the records
  reward::Options options;
  int64_t n = 1, limit = 0, num_problems = 0;
  double temperature = 1, top_p = 1;
  int64_t max_tokens = 0;
  uint64_t seed = 0;  ///< key of the random numbers
  bool consensus = true;
};
struct EvalSettings {
  std::string model, weights_hash, numeric_family, tokenizer_sha256, chat_template;
  int64_t seed = 0;  ///< as given
  std::vector<SuiteSettings> suites;
};

std::string to_json(const EvalSettings& settings);
/// @throws IoError naming `where`.
EvalSettings settings_from_json(const std::string& text, const std::string& where);

/// All figures of an evaluation: suites and their groups, with cons@k where the suite says so.
/// A pure function of the files.
std::vector<Summary> summaries_of(const EvalFiles& files, const EvalSettings& settings,
                                  const std::shared_ptr<const reward::VerifierRegistry>& registry,
                                  TieRule tie_rule = TieRule::kAverage);

/// results.json: the settings and every figure with its interval.
std::string results_json(const EvalSettings& settings, const std::vector<Summary>& summaries);

}  // namespace moerl::eval
