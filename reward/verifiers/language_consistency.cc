#include "reward/verifiers/language_consistency.h"

#include "common/check.h"
#include "reward/verifiers/language.h"
#include "reward/verifiers/sample_facts.h"

namespace moerl::reward {
namespace {

constexpr size_t kMaxBytes = 4 << 20;

struct LanguageOptions {
  TargetLanguage target;
  bool whole_response, prefix_open_think;
  double threshold;
};

LanguageOptions parse_options(const Options& options) {
  OptionReader reader("language_consistency", options);
  const std::string code = reader.text("target_language", "en");
  const std::optional<TargetLanguage> target = find_language(code);
  check(target.has_value(), "verifier 'language_consistency': option target_language is '", code,
        "', expected one of: ", known_languages());
  LanguageOptions parsed{*target, false, false, 0};
  parsed.whole_response = reader.choice("scope", 0, {"think", "response"}) == 1;
  parsed.threshold = reader.number("threshold", 0, 0, 1);
  parsed.prefix_open_think = reader.flag("prefix_open_think", false);
  reader.finish();
  return parsed;
}

/// Where the tag stands from `at` on, in any case of letters; npos if nowhere.
size_t find_tag(std::string_view text, std::string_view tag, size_t at) {
  const auto lower = [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  for (size_t i = text.find('<', at); i != std::string_view::npos; i = text.find('<', i + 1)) {
    size_t n = 0;
    while (n < tag.size() && i + n < text.size() && lower(text[i + n]) == tag[n]) ++n;
    if (n == tag.size()) return i;
  }
  return std::string_view::npos;
}

}  // namespace

std::string_view LanguageConsistencyVerifier::description() const {
  return "share of the chain of thought's words that are in the target language; options "
         "target_language=en, scope=think|response, threshold=0, prefix_open_think=false";
}

void LanguageConsistencyVerifier::check_options(const Options& options) const {
  parse_options(options);
}

Verdict LanguageConsistencyVerifier::score(const Sample& sample, const Options& options,
                                           const WorkBudget&) const {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  const LanguageOptions parsed = parse_options(options);
  const auto ended = [&](VerdictStatus status, std::string detail) {
    Verdict verdict = shaped_verdict(name(), 0, false, std::move(detail));
    verdict.status = status;
    return verdict;
  };
  std::string_view text = sample.response;
  if (text.size() > kMaxBytes) return ended(VerdictStatus::kLimit, "the response is too long");
  if (!parsed.whole_response) {
    size_t begin = 0;
    if (!parsed.prefix_open_think) {
      begin = find_tag(text, kOpen, 0);
      if (begin == std::string_view::npos) return ended(VerdictStatus::kNoAnswer, "no <think>");
      begin += kOpen.size();
    }
    if (find_tag(text, kOpen, begin) != std::string_view::npos)
      return ended(VerdictStatus::kUnparsable, "more than one <think>");
    text = text.substr(begin, find_tag(text, kClose, begin) - begin);
  }
  const LanguageCount count = count_language(text, parsed.target);
  if (count.num_words == 0) return ended(VerdictStatus::kNoAnswer, "no words");
  const double share = static_cast<double>(count.num_target) / static_cast<double>(count.num_words);
  const double score = parsed.threshold == 0 ? share : share >= parsed.threshold ? 1 : 0;
  return shaped_verdict(
      name(), score, score == 1,
      concat(count.num_target, " of ", count.num_words, " words are ", parsed.target.code));
}

}  // namespace moerl::reward
