#include "reward/verifiers/format.h"

#include <algorithm>

#include "common/check.h"
#include "reward/ascii.h"
#include "reward/option_reader.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/code_block.h"
#include "reward/verifiers/format_rules.h"
#include "reward/verifiers/sample_facts.h"

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

struct CodeFormatOptions {
  std::string language;
  bool prefix_open_think;
};

CodeFormatOptions parse_code_options(const Options& options) {
  OptionReader reader("code_format", options);
  CodeFormatOptions parsed{reader.text("language", "python"),
                           reader.flag("prefix_open_think", false)};
  reader.finish();
  check(!parsed.language.empty(), "verifier 'code_format': option language is empty");
  return parsed;
}

/// The same name, in any case of letters, or another name of the same language.
bool is_language(std::string_view mark, std::string_view language) {
  if (const auto known = parse_language(language)) return parse_language(mark) == known;
  return std::equal(mark.begin(), mark.end(), language.begin(), language.end(),
                    [](char a, char b) { return to_lower(a) == to_lower(b); });
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

std::string_view CodeFormatVerifier::description() const {
  return "the shape think_answer_strict with a fenced block of the language in the answer; options "
         "language=python, prefix_open_think=false";
}

void CodeFormatVerifier::check_options(const Options& options) const {
  parse_code_options(options);
}

Verdict CodeFormatVerifier::score(const Sample& sample, const Options& options,
                                  const WorkBudget&) const {
  const CodeFormatOptions parsed = parse_code_options(options);
  bool follows =
      follows_format(FormatRule::kThinkAnswerStrict, sample.response, parsed.prefix_open_think);
  if (follows) {
    const std::string_view answer = last_answer(sample.response).value_or("");
    const std::vector<CodeBlock> blocks = code_blocks(answer);
    follows = std::any_of(blocks.begin(), blocks.end(), [&](const CodeBlock& block) {
      return is_language(block.mark, parsed.language);
    });
  }
  return shaped_verdict(name(), follows ? 1 : 0, follows);
}

}  // namespace moerl::reward
