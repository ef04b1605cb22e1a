#include "reward/verifiers/answer_scoring.h"

#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

constexpr double kMaxWeight = 1e6;

double format_part(const AnswerScoring& scoring, std::string_view response, VerdictStatus status) {
  if (scoring.format_rule == FormatRule::kAnswer)
    return status == VerdictStatus::kCorrect || status == VerdictStatus::kIncorrect ? 1 : 0;
  return follows_format(scoring.format_rule, response, scoring.prefix_open_think) ? 1 : 0;
}

}  // namespace

AnswerScoring read_answer_scoring(OptionReader& reader, double default_format_weight) {
  AnswerScoring scoring;
  scoring.accuracy_weight = reader.number("accuracy_weight", 1, -kMaxWeight, kMaxWeight);
  scoring.format_weight =
      reader.number("format_weight", default_format_weight, -kMaxWeight, kMaxWeight);
  scoring.format_rule = static_cast<FormatRule>(reader.choice(
      "format_rule", 0,
      {"answer", "think_answer_strict", "think_answer", "think_only", "think_then_text"}));
  scoring.prefix_open_think = reader.flag("prefix_open_think", false);
  return scoring;
}

Verdict make_verdict(const AnswerScoring& scoring, std::string_view response, VerdictStatus status,
                     std::string_view extracted, std::string detail) {
  Verdict verdict;
  verdict.status = status;
  verdict.extracted = truncate_utf8(extracted, kMaxExtractedBytes);
  verdict.detail = std::move(detail);
  const double accuracy = status == VerdictStatus::kCorrect ? 1 : 0;
  const double format = is_unscorable(status) ? 0 : format_part(scoring, response, status);
  verdict.parts = {{"accuracy", accuracy}, {"format", format}};
  verdict.score = scoring.accuracy_weight * accuracy + scoring.format_weight * format;
  return verdict;
}

}  // namespace moerl::reward
