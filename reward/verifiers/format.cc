#include "reward/verifiers/format.h"

#include "common/check.h"
#include "reward/option_reader.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/format_rules.h"

namespace moerl::reward {
namespace {

struct FormatOptions {
  FormatRule rule;
  bool prefix_open_think;
  double full_reward, partial_reward;
};

FormatOptions parse_options(const Options& options) {
  constexpr FormatRule kRules[] = {FormatRule::kThinkAnswerStrict, FormatRule::kThinkAnswer,
                                   FormatRule::kThinkOnly, FormatRule::kThinkThenText,
                                   FormatRule::kThinkGraded};
  OptionReader reader("format", options);
  FormatOptions parsed;
  parsed.rule = kRules[reader.choice(
      "rule", 0,
      {"think_answer_strict", "think_answer", "think_only", "think_then_text", "think_graded"})];
  parsed.prefix_open_think = reader.flag("prefix_open_think", false);
  parsed.full_reward = reader.number("full_reward", 1, -1e6, 1e6);
  parsed.partial_reward =
      reader.number("partial_reward", parsed.rule == FormatRule::kThinkGraded ? 0.2 : 0, -1e6, 1e6);
  reader.finish();
  check(parsed.partial_reward == 0 || parsed.rule == FormatRule::kThinkGraded,
        "verifier 'format': option partial_reward needs rule=think_graded");
  return parsed;
}

}  // namespace

std::string_view FormatVerifier::description() const {
  return "the shape of the response; options rule=think_answer_strict|think_answer|think_only|"
         "think_then_text|think_graded, prefix_open_think=false, full_reward=1, partial_reward=0.2 "
         "(of think_graded: there is a think tag)";
}

std::vector<std::string> FormatVerifier::part_names() const { return {"format"}; }

void FormatVerifier::check_options(const Options& options) const { parse_options(options); }

Verdict FormatVerifier::score(const Sample& sample, const Options& options,
                              const WorkBudget&) const {
  const FormatOptions parsed = parse_options(options);
  const bool follows = follows_format(parsed.rule, sample.response, parsed.prefix_open_think);
  Verdict verdict;
  verdict.status = follows ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect;
  if (follows)
    verdict.score = parsed.full_reward;
  else if (parsed.rule == FormatRule::kThinkGraded && has_think_tag(sample.response))
    verdict.score = parsed.partial_reward;
  verdict.parts = {{"format", verdict.score}};
  const auto graded = graded_text(sample.response, parsed.prefix_open_think);
  if (const auto answer = graded ? last_answer(*graded) : std::nullopt)
    verdict.extracted = truncate_utf8(*answer, kMaxExtractedBytes);
  return verdict;
}

}  // namespace moerl::reward
