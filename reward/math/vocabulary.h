#pragma once
#include <optional>
#include <string_view>

#include "reward/math/token.h"

namespace moerl::reward::math {

/// What a LaTeX command means to the lexer.
struct CommandMeaning {
  enum class Action {
    kToken,      ///< becomes a token
    kIgnore,     ///< carries no meaning
    kSpace,      ///< white space
    kSkipGroup,  ///< ignored together with the group that follows
    kText,       ///< the group that follows is text
    kOpenGroup,  ///< the group that follows stands for itself, as in \boxed{...}
  };
  Action action = Action::kToken;
  TokenKind kind = TokenKind::kCommand;
  std::string_view text;
};

/// @param name  without the backslash. Unknown commands are tokens of their own name.
CommandMeaning command_meaning(std::string_view name);
/// True if the command has a meaning of its own.
bool is_known_command(std::string_view name);

/// A character outside of ASCII.
struct CharacterMeaning {
  enum class Action { kToken, kSpace, kIgnore, kText, kLetter };
  Action action = Action::kLetter;
  TokenKind kind = TokenKind::kSymbol;
  /// For kText: ASCII text that stands for it, such as a full-width digit's.
  std::string_view text;
};
CharacterMeaning character_meaning(std::string_view utf8);

/// The command that a plain word means, such as "sqrt", "pi", "infinity"; empty if it has none.
std::string_view word_meaning(std::string_view word);

/// The unit of counted things: "students", "ways".
inline constexpr std::string_view kCounted = "#";

/// One name for all spellings of a unit ("inches", "in" and "inch" are "in"), kCounted for what is
/// counted; empty if it is not a known unit.
std::string_view unit_name(std::string_view word);

/// The factor that a word of scale means ("thousand", "million"); 0 if it is none.
long scale_of(std::string_view word);

/// Words that join or qualify, in any case: never units of a number.
bool is_function_word(std::string_view word);

}  // namespace moerl::reward::math
