#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace moerl::reward {

/// The part of a response that is graded: what follows the last `</think>`. Text inside a block
/// that is not closed is thought, so the graded part ends where a `<think>` opens after that.
/// @param prefix_open_think  the prompt ends with `<think>`: the response starts inside the block,
///   so without a `</think>` nothing is graded.
/// @return empty optional if the response never leaves its thoughts.
std::optional<std::string_view> graded_text(std::string_view response, bool prefix_open_think);

/// What stands inside the last `<answer>...</answer>` of `text`, stripped; empty optional if there
/// is no such pair. Linear in the length of the text.
std::optional<std::string_view> last_answer(std::string_view text);

/// Without leading and trailing ASCII white space.
std::string_view strip(std::string_view text);

/// At most `max_bytes` bytes, never a part of a UTF-8 character.
std::string_view truncate_utf8(std::string_view text, size_t max_bytes);

/// How often `part` occurs in `text`, without overlap. REQUIRES: part is not empty.
size_t count_occurrences(std::string_view text, std::string_view part);

}  // namespace moerl::reward
