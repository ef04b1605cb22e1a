#include "reward/verifiers/format.h"

#include "reward/option_reader.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/format_rules.h"

namespace moerl::reward {
namespace {

struct FormatOptions {
  FormatRule rule;
  bool prefix_open_think;
};

FormatOptions parse_options(const Options& options) {
  constexpr FormatRule kRules[] = {FormatRule::kThinkAnswerStrict, FormatRule::kThinkAnswer,
                                   FormatRule::kThinkOnly, FormatRule::kThinkThenText};
  OptionReader reader("format", options);
  FormatOptions parsed;
  parsed.rule = kRules[reader.choice(
      "rule", 0, {"think_answer_strict", "think_answer", "think_only", "think_then_text"})];
  parsed.prefix_open_think = reader.flag("prefix_open_think", false);
  reader.finish();
  return parsed;
}

}  // namespace

std::string_view FormatVerifier::description() const {
  return "the shape of the response; options rule=think_answer_strict|think_answer|think_only|"
         "think_then_text, prefix_open_think=false";
}

std::vector<std::string> FormatVerifier::part_names() const { return {"format"}; }

void FormatVerifier::check_options(const Options& options) const { parse_options(options); }

Verdict FormatVerifier::score(const Sample& sample, const Options& options,
                              const WorkBudget&) const {
  const FormatOptions parsed = parse_options(options);
  const bool follows = follows_format(parsed.rule, sample.response, parsed.prefix_open_think);
  Verdict verdict;
  verdict.status = follows ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect;
  verdict.score = follows ? 1 : 0;
  verdict.parts = {{"format", verdict.score}};
  const auto graded = graded_text(sample.response, parsed.prefix_open_think);
  if (const auto answer = graded ? last_answer(*graded) : std::nullopt)
    verdict.extracted = truncate_utf8(*answer, kMaxExtractedBytes);
  return verdict;
}

}  // namespace moerl::reward
