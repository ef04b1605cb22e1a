#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "reward/option_reader.h"
#include "reward/verdict.h"
#include "reward/verifiers/format_rules.h"

namespace moerl::reward {

/// The options that every verifier of answers has, and the score they define:
///
///   score = accuracy_weight * accuracy + format_weight * format
///
/// accuracy is 1 for the status kCorrect, else 0. format is 1 if `format_rule` holds, else 0; the
/// rule "answer" holds when a well formed answer was found, right or wrong.
struct AnswerScoring {
  double accuracy_weight;
  double format_weight;
  FormatRule format_rule;
  bool prefix_open_think;
};

/// Reads accuracy_weight, format_weight, format_rule and prefix_open_think.
/// @throws std::invalid_argument.
AnswerScoring read_answer_scoring(OptionReader& reader, double default_format_weight);

/// The names of the parts of make_verdict.
inline std::vector<std::string> answer_part_names() { return {"accuracy", "format"}; }

/// A verdict with score and parts. An unscorable status has score 0 and parts 0.
Verdict make_verdict(const AnswerScoring& scoring, std::string_view response, VerdictStatus status,
                     std::string_view extracted, std::string detail);

}  // namespace moerl::reward
