#include "reward/verifiers/exact_match.h"

#include <algorithm>

#include "reward/ascii.h"
#include "reward/verifiers/answer_scoring.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/words.h"

namespace moerl::reward {
namespace {

enum class Extraction { kAnswerTag, kText, kAnswerTagOrText };

struct ExactMatchOptions {
  AnswerScoring scoring;
  Extraction extraction;
  bool strip, casefold, squeeze_space, drop_punctuation, drop_articles;
};

ExactMatchOptions parse_options(const Options& options) {
  OptionReader reader("exact_match", options);
  ExactMatchOptions parsed;
  parsed.scoring = read_answer_scoring(reader, 0);
  parsed.extraction = static_cast<Extraction>(
      reader.choice("extraction", 0, {"answer_tag", "text", "answer_tag_or_text"}));
  parsed.strip = reader.flag("strip", true);
  parsed.casefold = reader.flag("casefold", false);
  parsed.squeeze_space = reader.flag("squeeze_space", false);
  parsed.drop_punctuation = reader.flag("drop_punctuation", false);
  parsed.drop_articles = reader.flag("drop_articles", false);
  reader.finish();
  return parsed;
}

bool is_punctuation(char c) { return '!' <= c && c <= '~' && !is_letter(c) && !is_digit(c); }

std::string without_articles(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_space(text[end]) == is_space(text[at])) ++end;
    std::string word;
    for (char c : text.substr(at, std::min<size_t>(end - at, 4))) word += to_lower(c);
    if (word != "a" && word != "an" && word != "the") out += text.substr(at, end - at);
    at = end;
  }
  return out;
}

std::string squeezed(std::string_view text) {
  std::string out;
  for (char c : text) {
    const char kept = is_space(c) ? ' ' : c;
    if (kept != ' ' || !out.ends_with(' ')) out += kept;
  }
  return out;
}

std::string normalised(std::string_view text, const ExactMatchOptions& options) {
  std::string out(text);
  if (options.drop_punctuation) std::erase_if(out, is_punctuation);
  if (options.drop_articles) out = without_articles(out);
  if (options.casefold) out = to_lower_case(out);
  if (options.squeeze_space) out = squeezed(out);
  return options.strip ? std::string(strip(out)) : out;
}

std::optional<std::string_view> extract(std::string_view response,
                                        const ExactMatchOptions& options) {
  const auto graded = graded_text(response, options.scoring.prefix_open_think);
  if (!graded || options.extraction == Extraction::kText) return graded;
  const auto answer = last_answer(*graded);
  return answer || options.extraction == Extraction::kAnswerTag ? answer : graded;
}

}  // namespace

std::string_view ExactMatchVerifier::description() const {
  return "the answer's text equals the ground truth; options extraction=answer_tag|text|"
         "answer_tag_or_text, strip=true, casefold=false, squeeze_space=false, "
         "drop_punctuation=false, drop_articles=false, accuracy_weight=1, format_weight=0, "
         "format_rule=answer, prefix_open_think=false";
}

std::vector<std::string> ExactMatchVerifier::part_names() const { return answer_part_names(); }

void ExactMatchVerifier::check_options(const Options& options) const { parse_options(options); }

Verdict ExactMatchVerifier::score(const Sample& sample, const Options& options,
                                  const WorkBudget&) const {
  const ExactMatchOptions parsed = parse_options(options);
  auto verdict = [&](VerdictStatus status, std::string_view extracted, std::string detail) {
    return make_verdict(parsed.scoring, sample.response, status, extracted, std::move(detail));
  };
  const std::string gold = normalised(sample.ground_truth, parsed);
  if (strip(gold).empty())
    return verdict(VerdictStatus::kGoldError, "", "the ground truth has no text");

  const auto answer = extract(sample.response, parsed);
  if (!answer || strip(*answer).empty()) return verdict(VerdictStatus::kNoAnswer, "", "");
  const bool is_equal = normalised(*answer, parsed) == gold;
  return verdict(is_equal ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect, *answer, "");
}

}  // namespace moerl::reward
