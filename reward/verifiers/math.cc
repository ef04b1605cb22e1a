#include "reward/verifiers/math.h"

#include "common/check.h"
#include "reward/extraction/answer_extraction.h"
#include "reward/math/equivalence.h"
#include "reward/verifiers/answer_scoring.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

using math::AnswerType;

struct Settings {
  AnswerScoring scoring;
  Extraction extraction;
  math::MathOptions math;
};

Settings read_settings(const Options& options) {
  OptionReader reader("math", options);
  Settings settings;
  settings.scoring = read_answer_scoring(reader, 0);
  settings.extraction = read_extraction(reader, Extraction::kBoxOrMarker);
  constexpr std::array kRoundings = {math::DecimalRounding::kRelative, math::DecimalRounding::kOff,
                                     math::DecimalRounding::kDigits};
  settings.math.decimal_rounding =
      kRoundings[reader.choice("decimal_rounding", 0, {"relative", "off", "digits"})];
  settings.math.optional_percent = reader.flag("optional_percent", true);
  settings.math.optional_units = reader.flag("optional_units", true);
  settings.math.optional_base = reader.flag("optional_base", false);
  settings.math.unordered_lists = reader.flag("unordered_lists", true);
  settings.math.optional_brackets = reader.flag("optional_brackets", true);
  settings.math.optional_name = reader.flag("optional_name", true);
  settings.math.sets_as_relations = reader.flag("sets_as_relations", true);
  settings.math.decimal_comma = reader.flag("decimal_comma", false);
  reader.finish();
  return settings;
}

/// What the ground truth means: of a whole solution, its last box.
std::string gold_text(std::string_view ground_truth) {
  auto boxes = extract_answers(ground_truth, Extraction::kBox);
  if (!boxes.empty()) return boxes.front().text;
  return std::string(strip(ground_truth));
}

/// The candidate that is graded. Words count where words are expected, a joined list where several
/// answers are; otherwise the first candidate that is mathematics.
std::string choose(const std::vector<Candidate>& candidates, AnswerType gold,
                   const math::MathOptions& options) {
  const Candidate* first = nullptr;
  for (const Candidate& candidate : candidates) {
    if (candidate.is_joined && gold != AnswerType::kSeveral) continue;
    if (!first) first = &candidate;
    if (gold == AnswerType::kWords) break;
    const AnswerType type = math::answer_type(candidate.text, options);
    if (type == AnswerType::kWords || type == AnswerType::kNone) {
      const char letter = gold == AnswerType::kChoice ? choice_letter(candidate.text, 'Z') : 0;
      if (letter != 0) return std::string(1, letter);
      continue;
    }
    return candidate.text;
  }
  return first ? first->text : "";
}

VerdictStatus status_of(math::Outcome outcome) {
  switch (outcome) {
    case math::Outcome::kEqual:
      return VerdictStatus::kCorrect;
    case math::Outcome::kDifferent:
      return VerdictStatus::kIncorrect;
    case math::Outcome::kUnparsable:
      return VerdictStatus::kUnparsable;
    case math::Outcome::kLimit:
      return VerdictStatus::kLimit;
    case math::Outcome::kGoldUnparsable:
      return VerdictStatus::kGoldError;
  }
  return VerdictStatus::kInternalError;
}

}  // namespace

std::string_view MathVerifier::description() const {
  return "the answer is mathematically equal to the ground truth; options extraction=box_or_marker|"
         "box|marker|answer_tag|hashes|last_number|any|none, decimal_rounding=relative|off|digits, "
         "optional_percent=true, optional_units=true, optional_base=false, unordered_lists=true, "
         "optional_brackets=true, optional_name=true, sets_as_relations=true, decimal_comma=false, "
         "accuracy_weight=1, format_weight=0, format_rule=answer, prefix_open_think=false";
}

std::vector<std::string> MathVerifier::part_names() const { return answer_part_names(); }

void MathVerifier::check_options(const Options& options) const { read_settings(options); }

Verdict MathVerifier::score(const Sample& sample, const Options& options,
                            const WorkBudget& budget) const {
  const Settings settings = read_settings(options);
  auto verdict = [&](VerdictStatus status, std::string_view extracted, std::string detail) {
    return make_verdict(settings.scoring, sample.response, status, extracted, std::move(detail));
  };
  const std::string gold = gold_text(sample.ground_truth);
  const math::AnswerType type = math::answer_type(gold, settings.math);
  if (const std::string problem = math::gold_problem(gold, settings.math); !problem.empty())
    return verdict(VerdictStatus::kGoldError, "",
                   concat("the ground truth is '", truncate_utf8(gold, 80), "': ", problem));

  const auto graded = graded_text(sample.response, settings.scoring.prefix_open_think);
  const auto candidates =
      graded ? extract_answers(*graded, settings.extraction) : std::vector<Candidate>{};
  budget.check();
  const std::string answer = choose(candidates, type, settings.math);
  if (answer.empty()) return verdict(VerdictStatus::kNoAnswer, "", "");
  const math::Comparison comparison = math::compare_answers(gold, answer, settings.math);
  const bool is_right = comparison.outcome == math::Outcome::kEqual;
  return verdict(status_of(comparison.outcome), answer, is_right ? "" : comparison.detail);
}

}  // namespace moerl::reward
