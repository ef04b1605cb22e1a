#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "reward/verdict.h"
#include "rollout/completion.h"

namespace moerl::eval {

/// One problem of an evaluation as it was asked; a line of problems.jsonl.
struct ProblemRecord {
  std::string suite;
  int64_t problem = 0;  ///< number in its suite, from 0; also the key of its random numbers
  std::string id;       ///< as the suite's file names it
  std::string group;    ///< part of the suite, such as a subject; may be empty
  std::string data_source, prompt, ground_truth, extra_info_json;

  friend bool operator==(const ProblemRecord&, const ProblemRecord&) = default;
};

/// One generation and its verdict; a line of samples.jsonl. All figures are computed from these.
struct EvalRecord {
  std::string suite;
  int64_t problem = 0;
  std::string id;
  int64_t sample = 0;       ///< from 0 to n - 1
  std::string prompt_hash;  ///< hash64 of the prompt's text, 16 hexadecimal digits
  std::string response;     ///< valid UTF-8, without the stop token
  int64_t prompt_tokens = 0;
  int64_t response_tokens = 0;  ///< the stop token included
  int64_t thinking_tokens = 0;  ///< of these: up to the end of the last thought
  FinishReason finish_reason = FinishReason::kStop;
  reward::VerdictStatus status = reward::VerdictStatus::kInternalError;
  double score = 0;
  std::map<std::string, double> parts;
  std::string extracted, detail;

  bool is_correct() const { return status == reward::VerdictStatus::kCorrect; }
  bool is_truncated() const { return finish_reason == FinishReason::kLength; }
  friend bool operator==(const EvalRecord&, const EvalRecord&) = default;
};

std::string hash_hex(uint64_t hash);

/// One line of JSON without its end; keys in a fixed order.
std::string to_json_line(const ProblemRecord& record);
std::string to_json_line(const EvalRecord& record);
/// @param where  "file:line" for errors. @throws IoError if the line is no such record.
ProblemRecord problem_from_json(std::string_view line, const std::string& where);
EvalRecord record_from_json(std::string_view line, const std::string& where);

}  // namespace moerl::eval
