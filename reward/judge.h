#pragma once
#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <map>
#include <memory>
#include <string>

#include "reward/sample.h"
#include "reward/verdict.h"
#include "reward/verifier_registry.h"

namespace moerl::reward {

struct JudgeConfig {
  std::string verifier;
  Options options;
  /// Threads that run the verifier; >= 1.
  int num_threads = 2;
  /// Time that the verifier has for one row, in milliseconds; >= 1.
  int deadline_ms = 10'000;
  /// Key of a recorded label to compare with: a truth value (the status is correct or not) or a
  /// number (the score, within label_tolerance). Empty: none.
  std::string label;
  double label_tolerance = 1e-6;
};

/// What judge saw.
struct JudgeSummary {
  uint64_t num_rows = 0;
  std::map<VerdictStatus, uint64_t> num_by_status;
  /// Mean over the rows that are not unscorable; 0 if there are none.
  double mean_score = 0;
  /// Rows whose label agrees, does not, or is missing; a row that is unscorable does not agree.
  uint64_t num_agreeing = 0, num_disagreeing = 0, num_unlabelled = 0;
};

/// One line for people: rows, mean score, rows of each status that occurs.
std::string to_string(const JudgeSummary& summary);

/// Scores recorded completions. Each line of `in` is a JSON object
///
///   {"response": "...", "ground_truth": ..., "extra_info": {...}, ...}
///
/// and is written to `out`, in order, as one line with its own keys followed by `score`, `status`
/// (status_name), `extracted`, each part by its name, and `detail` where there is one; a key of the
/// row with such a name is replaced. A ground truth that is not a string is handed to the verifier
/// as JSON text; `data_source` and `prompt` are handed on if they are strings, and so are the facts
/// num_tokens, token_ids, is_correct and group (a list of objects with num_tokens, num_characters,
/// is_correct). Blank lines are skipped. Reads as it writes: memory does not grow with the number
/// of lines.
/// @param report  gets a table of the rows whose label disagrees; may be null.
/// @param source  name of the input for error texts.
/// @throws std::invalid_argument for an unknown verifier or option; IoError naming source:line for
/// a
///   line that is not such an object, a fact of another type included, after the rows before it
///   were written, or if writing fails.
JudgeSummary judge(std::shared_ptr<const VerifierRegistry> registry, const JudgeConfig& config,
                   std::istream& in, const std::string& source, std::ostream& out,
                   std::ostream* report = nullptr);

/// The same for a file. @throws IoError also if it cannot be read.
JudgeSummary judge_file(std::shared_ptr<const VerifierRegistry> registry, const JudgeConfig& config,
                        const std::filesystem::path& path, std::ostream& out,
                        std::ostream* report = nullptr);

}  // namespace moerl::reward
