#include "reward/verifiers/length_rewards.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/check.h"
#include "reward/verifiers/sample_facts.h"

namespace moerl::reward {
namespace {

constexpr double kMaxLength = 1e9, kMaxValue = 1e6;
constexpr char kNoTokens[] =
    "the number of tokens is not known; unit=characters counts characters instead";
constexpr char kNoCorrectness[] =
    "whether the answer is right is not known; the reward's first part must judge it";

LengthUnit parse_len_options(const Options& options) {
  OptionReader reader("len", options);
  const LengthUnit unit = read_length_unit(reader);
  reader.finish();
  return unit;
}

struct CosineOptions {
  double min_value_wrong, max_value_wrong, min_value_correct, max_value_correct, max_len;
  LengthUnit unit;
};

CosineOptions parse_cosine_options(const Options& options) {
  OptionReader reader("cosine", options);
  CosineOptions parsed;
  auto value = [&](const char* name, double fallback) {
    return reader.number(name, fallback, -kMaxValue, kMaxValue);
  };
  parsed.min_value_wrong = value("min_value_wrong", -1);
  parsed.max_value_wrong = value("max_value_wrong", -0.5);
  parsed.min_value_correct = value("min_value_correct", 0.5);
  parsed.max_value_correct = value("max_value_correct", 1);
  parsed.max_len = reader.number("max_len", 1000, 1, kMaxLength);
  parsed.unit = read_length_unit(reader);
  reader.finish();
  return parsed;
}

struct OverlongOptions {
  double max_len, cache_len, penalty_factor;
  LengthUnit unit;
};

OverlongOptions parse_overlong_options(const Options& options) {
  OptionReader reader("soft_overlong", options);
  OverlongOptions parsed;
  parsed.max_len = reader.number("max_len", 20480, 1, kMaxLength);
  parsed.cache_len = reader.number("cache_len", 4096, 1, kMaxLength);
  parsed.penalty_factor = reader.number("penalty_factor", 1, 0, kMaxValue);
  parsed.unit = read_length_unit(reader);
  reader.finish();
  check(parsed.cache_len <= parsed.max_len, "verifier 'soft_overlong': cache_len is ",
        parsed.cache_len, ", expected at most max_len = ", parsed.max_len);
  return parsed;
}

}  // namespace

std::string_view LenVerifier::description() const {
  return "Kimi k1.5's length reward within the group: shorter is better, a wrong answer earns at "
         "most 0; option unit=tokens|characters";
}

void LenVerifier::check_options(const Options& options) const { parse_len_options(options); }

Verdict LenVerifier::score(const Sample& sample, const Options& options, const WorkBudget&) const {
  const LengthUnit unit = parse_len_options(options);
  if (!sample.is_correct) return missing_fact(name(), kNoCorrectness);
  if (sample.group.empty()) return missing_fact(name(), "the completion's group is not known");
  const std::optional<int64_t> length = length_of(sample, unit);
  if (!length) return missing_fact(name(), kNoTokens);
  int64_t shortest = *length, longest = *length;
  for (const GroupMember& member : sample.group) {
    const int64_t each = length_of(member, unit);
    if (each < 0)
      return missing_fact(name(), unit == LengthUnit::kTokens
                                      ? kNoTokens
                                      : "the group's numbers of characters are not known");
    shortest = std::min(shortest, each);
    longest = std::max(longest, each);
  }
  if (shortest == longest) return shaped_verdict(name(), 0, true);
  const double lambda =
      0.5 - static_cast<double>(*length - shortest) / static_cast<double>(longest - shortest);
  return shaped_verdict(name(), *sample.is_correct ? lambda : std::min(0.0, lambda),
                        *length == shortest);
}

std::string_view CosineVerifier::description() const {
  return "cosine length reward: right answers earn more when short, wrong ones lose less when "
         "long; "
         "options max_len=1000, min_value_correct=0.5, max_value_correct=1, min_value_wrong=-1, "
         "max_value_wrong=-0.5, unit=tokens|characters";
}

void CosineVerifier::check_options(const Options& options) const { parse_cosine_options(options); }

Verdict CosineVerifier::score(const Sample& sample, const Options& options,
                              const WorkBudget&) const {
  const CosineOptions parsed = parse_cosine_options(options);
  if (!sample.is_correct) return missing_fact(name(), kNoCorrectness);
  const std::optional<int64_t> length = length_of(sample, parsed.unit);
  if (!length) return missing_fact(name(), kNoTokens);
  const double progress = std::min(static_cast<double>(*length) / parsed.max_len, 1.0);
  const double at_start = *sample.is_correct ? parsed.max_value_correct : parsed.min_value_wrong;
  const double at_end = *sample.is_correct ? parsed.min_value_correct : parsed.max_value_wrong;
  const double score =
      at_end + 0.5 * (at_start - at_end) * (1 + std::cos(std::numbers::pi * progress));
  return shaped_verdict(name(), score, *sample.is_correct);
}

std::string_view SoftOverlongVerifier::description() const {
  return "DAPO's soft overlong punishment, 0 to -penalty_factor; options max_len=20480, "
         "cache_len=4096, penalty_factor=1, unit=tokens|characters";
}

void SoftOverlongVerifier::check_options(const Options& options) const {
  parse_overlong_options(options);
}

Verdict SoftOverlongVerifier::score(const Sample& sample, const Options& options,
                                    const WorkBudget&) const {
  const OverlongOptions parsed = parse_overlong_options(options);
  const std::optional<int64_t> length = length_of(sample, parsed.unit);
  if (!length) return missing_fact(name(), kNoTokens);
  const double over = static_cast<double>(*length) - (parsed.max_len - parsed.cache_len);
  const double share = std::clamp(over / parsed.cache_len, 0.0, 1.0);
  return shaped_verdict(name(), share == 0 ? 0.0 : -parsed.penalty_factor * share, share == 0);
}

}  // namespace moerl::reward
