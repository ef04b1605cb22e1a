#include "reward/verifiers/multiple_choice.h"

#include <charconv>

#include "common/check.h"
#include "reward/extraction/answer_extraction.h"
#include "reward/verifiers/answer_scoring.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

struct Settings {
  AnswerScoring scoring;
  Extraction extraction;
  char last;
  bool gold_is_index;
};

Settings read_settings(const Options& options) {
  OptionReader reader("multiple_choice", options);
  Settings settings;
  settings.scoring = read_answer_scoring(reader, 0);
  settings.extraction = read_extraction(reader, Extraction::kMarker);
  settings.last = static_cast<char>('A' + reader.number("num_choices", 4, 2, 26) - 1);
  settings.gold_is_index = reader.flag("gold_is_index", false);
  reader.finish();
  return settings;
}

/// Empty if the ground truth names no choice.
std::string gold_letters(std::string_view text, const Settings& settings) {
  text = strip(text);
  if (!settings.gold_is_index) {
    const char letter = choice_letter(text, settings.last);
    const std::string several = choice_letters(text, settings.last);
    return several.size() > 1 || letter == 0 ? several : std::string(1, letter);
  }
  int index = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  const bool is_index = error == std::errc() && end == text.data() + text.size() && index >= 0 &&
                        index <= settings.last - 'A';
  return is_index ? std::string(1, static_cast<char>('A' + index)) : "";
}

}  // namespace

std::string_view MultipleChoiceVerifier::description() const {
  return "the answer's letter is the ground truth's; options extraction=marker|box_or_marker|box|"
         "answer_tag|hashes|last_number|any|none, num_choices=4, gold_is_index=false, "
         "accuracy_weight=1, format_weight=0, format_rule=answer, prefix_open_think=false";
}

std::vector<std::string> MultipleChoiceVerifier::part_names() const { return answer_part_names(); }

void MultipleChoiceVerifier::check_options(const Options& options) const { read_settings(options); }

Verdict MultipleChoiceVerifier::score(const Sample& sample, const Options& options,
                                      const WorkBudget&) const {
  const Settings settings = read_settings(options);
  auto verdict = [&](VerdictStatus status, std::string_view extracted, std::string detail) {
    return make_verdict(settings.scoring, sample.response, status, extracted, std::move(detail));
  };
  const std::string gold = gold_letters(sample.ground_truth, settings);
  if (gold.empty())
    return verdict(
        VerdictStatus::kGoldError, "",
        concat("the ground truth is '", truncate_utf8(sample.ground_truth, 80), "', expected ",
               settings.gold_is_index ? "the index of a choice" : "letters from A to ",
               settings.gold_is_index ? "" : std::string(1, settings.last)));

  const auto graded = graded_text(sample.response, settings.scoring.prefix_open_think);
  const auto candidates =
      graded ? extract_answers(*graded, settings.extraction) : std::vector<Candidate>{};
  if (candidates.empty()) return verdict(VerdictStatus::kNoAnswer, "", "");
  for (const Candidate& candidate : candidates) {
    // Letters of several boxes, or several letters, answer only what has several right choices.
    std::string letters = gold.size() > 1 ? choice_letters(candidate.text, settings.last) : "";
    if (letters.empty() && !candidate.is_joined)
      if (const char letter = choice_letter(candidate.text, settings.last)) letters = letter;
    if (letters.empty()) continue;
    return verdict(letters == gold ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect, letters,
                   "");
  }
  return verdict(VerdictStatus::kUnparsable, candidates.back().text,
                 concat("the answer has no letter from A to ", std::string(1, settings.last)));
}

}  // namespace moerl::reward
