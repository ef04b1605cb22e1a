#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reward/option_reader.h"

namespace moerl::reward {

/// Where the answer of a response stands. Each belongs to a prompt:
enum class Extraction {
  kBoxOrMarker,  ///< the last box; without one, as kMarker: the usual prompts of mathematics
  kBox,          ///< "put your final answer within \boxed{}"
  kMarker,  ///< "the last line ... Answer: $ANSWER": what follows the last "answer:", "answer is"
  kAnswerTag,   ///< "<answer> answer here </answer>": the last pair
  kHashes,      ///< "output the final answer after ####": the last one
  kLastNumber,  ///< no place was asked for: the last number of the text
  kAny,   ///< the first of: box, answer tag, hashes, marker, the whole text if it is short, the
          ///< last formula or number
  kNone,  ///< the response is the answer
};

/// Reads the option `extraction`: box_or_marker, box, marker, answer_tag, hashes, last_number, any
/// or none. @throws std::invalid_argument.
Extraction read_extraction(OptionReader& reader, Extraction fallback);

/// An answer that may be meant, as it is written.
struct Candidate {
  std::string text;
  /// Several boxes of one statement: meant only where several answers are expected.
  bool is_joined = false;
};

/// What a response gives as its answer, best first; the first that can be read as an answer counts.
/// Joined boxes come before the last of them. Empty if there is no answer. Linear in the text.
/// @param graded  the part after the thoughts: see graded_text.
std::vector<Candidate> extract_answers(std::string_view graded, Extraction extraction);

/// The text up to the first token of a chat template, such as <|im_end|>.
std::string_view before_chat_token(std::string_view text);

/// The letter of a choice that an answer states: "B", "(B)", "B) text", "**B**", "$B$", "B
/// because"; in marked answers. @param last  'D' for four choices. 0 if there is none.
char choice_letter(std::string_view answer, char last);

/// The letters of an answer that is nothing but choices, sorted, each once: "AC", "A, C", "(A) and
/// (C)", "$A C$". Empty if it is anything else.
std::string choice_letters(std::string_view answer, char last);

}  // namespace moerl::reward
