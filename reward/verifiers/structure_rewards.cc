#include "reward/verifiers/structure_rewards.h"

#include <algorithm>
#include <set>
#include <span>
#include <unordered_map>

#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/sample_facts.h"
#include "reward/verifiers/words.h"

namespace moerl::reward {
namespace {

bool parse_tag_count_options(const Options& options) {
  OptionReader reader("tag_count", options);
  const bool prefix_open_think = reader.flag("prefix_open_think", false);
  reader.finish();
  return prefix_open_think;
}

double parse_steps_options(const Options& options) {
  OptionReader reader("reasoning_steps", options);
  const double num_steps = reader.number("num_steps", 3, 1, 1e6);
  reader.finish();
  return num_steps;
}

struct RepetitionOptions {
  size_t ngram_size;
  double max_penalty;
  bool by_token_ids;
};

RepetitionOptions parse_repetition_options(const Options& options) {
  OptionReader reader("repetition", options);
  RepetitionOptions parsed;
  parsed.ngram_size = static_cast<size_t>(reader.number("ngram_size", 3, 1, 1000));
  parsed.max_penalty = reader.number("max_penalty", -1, -1e6, 0);
  parsed.by_token_ids = reader.choice("unit", 0, {"words", "token_ids"}) == 1;
  reader.finish();
  return parsed;
}

/// Bytes of the step mark that stands at `at`; 0: there is none.
size_t step_mark_size(std::string_view text, size_t at) {
  const std::string_view rest = text.substr(at);
  const auto digits_after = [&](size_t begin) {
    size_t end = begin;
    while (end < rest.size() && '0' <= rest[end] && rest[end] <= '9') ++end;
    return end - begin;
  };
  for (std::string_view mark : {"\n-", "\n*", "First,", "Second,", "Next,", "Finally,"})
    if (rest.starts_with(mark)) return mark.size();
  constexpr std::string_view kStep = "Step ";
  const bool is_step = rest.starts_with(kStep), is_line_start = at == 0 || text[at - 1] == '\n';
  if (!is_step && !is_line_start) return 0;
  const size_t begin = is_step ? kStep.size() : 0, digits = digits_after(begin);
  const char end = is_step ? ':' : '.';
  if (digits == 0 || begin + digits >= rest.size() || rest[begin + digits] != end) return 0;
  return begin + digits + 1;
}

/// 1 - unique / all over the n-grams. REQUIRES: at least n units.
double repeated_share(std::span<const int32_t> units, size_t n) {
  const auto less = [n](const int32_t* a, const int32_t* b) {
    return std::lexicographical_compare(a, a + n, b, b + n);
  };
  std::set<const int32_t*, decltype(less)> unique(less);
  const size_t count = units.size() - n + 1;
  for (size_t i = 0; i < count; ++i) unique.insert(units.data() + i);
  return 1 - static_cast<double>(unique.size()) / static_cast<double>(count);
}

}  // namespace

std::string_view TagCountVerifier::description() const {
  return "0.25 for each of the tags <think>, </think>, <answer>, </answer> that stands exactly "
         "once "
         "on a line of its own; option prefix_open_think=false";
}

void TagCountVerifier::check_options(const Options& options) const {
  parse_tag_count_options(options);
}

Verdict TagCountVerifier::score(const Sample& sample, const Options& options,
                                const WorkBudget&) const {
  const bool prefix_open_think = parse_tag_count_options(options);
  const std::string text = (prefix_open_think ? "<think>\n" : "") + sample.response;
  double score = 0;
  for (std::string_view tag : {"<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>"})
    score += count_occurrences(text, tag) == 1 ? 0.25 : 0;
  return shaped_verdict(name(), score, score == 1);
}

std::string_view ReasoningStepsVerifier::description() const {
  return "visible steps such as 'Step 1:', '1.', bullets, 'First,': min(1, count / num_steps); "
         "option num_steps=3";
}

void ReasoningStepsVerifier::check_options(const Options& options) const {
  parse_steps_options(options);
}

Verdict ReasoningStepsVerifier::score(const Sample& sample, const Options& options,
                                      const WorkBudget&) const {
  const double num_steps = parse_steps_options(options);
  double count = 0;
  for (size_t at = 0; at < sample.response.size();) {
    const size_t size = step_mark_size(sample.response, at);
    count += size > 0;
    at += std::max<size_t>(size, 1);
  }
  const double score = std::min(1.0, count / num_steps);
  return shaped_verdict(name(), score, score == 1);
}

std::string_view RepetitionVerifier::description() const {
  return "max_penalty times the share of n-grams that repeat an earlier one; options ngram_size=3, "
         "max_penalty=-1, unit=words|token_ids";
}

void RepetitionVerifier::check_options(const Options& options) const {
  parse_repetition_options(options);
}

Verdict RepetitionVerifier::score(const Sample& sample, const Options& options,
                                  const WorkBudget&) const {
  const RepetitionOptions parsed = parse_repetition_options(options);
  std::vector<int32_t> units = sample.token_ids;
  if (parsed.by_token_ids) {
    if (units.empty() && (sample.num_tokens > 0 || !sample.response.empty()))
      return missing_fact(name(), "the token ids are not known; unit=words needs none");
  } else {
    units.clear();
    std::unordered_map<std::string, int32_t> ids;
    for (std::string& word : lower_case_words(sample.response))
      units.push_back(ids.emplace(std::move(word), static_cast<int32_t>(ids.size())).first->second);
  }
  if (units.size() < parsed.ngram_size) return shaped_verdict(name(), 0, true);
  const double share = repeated_share(units, parsed.ngram_size);
  return shaped_verdict(name(), share == 0 ? 0.0 : parsed.max_penalty * share, share == 0);
}

}  // namespace moerl::reward
