#include "reward/verifiers/sample_facts.h"

#include "reward/utf8.h"

namespace moerl::reward {

LengthUnit read_length_unit(OptionReader& reader) {
  return static_cast<LengthUnit>(reader.choice("unit", 0, {"tokens", "characters"}));
}

int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (char c : to_valid_utf8(text)) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

std::optional<int64_t> length_of(const Sample& sample, LengthUnit unit) {
  if (unit == LengthUnit::kCharacters) return count_characters(sample.response);
  if (sample.num_tokens >= 0) return sample.num_tokens;
  if (!sample.token_ids.empty()) return static_cast<int64_t>(sample.token_ids.size());
  return std::nullopt;
}

int64_t length_of(const GroupMember& member, LengthUnit unit) {
  return unit == LengthUnit::kCharacters ? member.num_characters : member.num_tokens;
}

Verdict shaped_verdict(std::string_view name, double score, bool is_best, std::string detail) {
  Verdict verdict;
  verdict.status = is_best ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect;
  verdict.score = score;
  verdict.parts = {{std::string(name), score}};
  verdict.detail = std::move(detail);
  return verdict;
}

Verdict missing_fact(std::string_view name, std::string detail) {
  Verdict verdict = shaped_verdict(name, 0, false, std::move(detail));
  verdict.status = VerdictStatus::kGoldError;
  return verdict;
}

}  // namespace moerl::reward
