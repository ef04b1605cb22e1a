#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "reward/option_reader.h"
#include "reward/sample.h"
#include "reward/verdict.h"

namespace moerl::reward {

/// What lengths are counted in.
enum class LengthUnit { kTokens, kCharacters };

/// Reads the option unit = tokens (default) or characters (Unicode code points).
LengthUnit read_length_unit(OptionReader& reader);

/// The length of the completion; empty if it is asked for in tokens and these are not known.
std::optional<int64_t> length_of(const Sample& sample, LengthUnit unit);
int64_t length_of(const GroupMember& member, LengthUnit unit);

/// Unicode code points; a byte that is no part of well formed UTF-8 counts as one.
int64_t count_characters(std::string_view text);

/// The verdict of a reward that shapes: one part, named as the verifier, is the score.
/// @param is_best  the score is as good as it can be: status kCorrect, else kIncorrect.
Verdict shaped_verdict(std::string_view name, double score, bool is_best, std::string detail = {});

/// kGoldError: the request lacks a fact that the reward needs.
Verdict missing_fact(std::string_view name, std::string detail);

}  // namespace moerl::reward
