#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moerl::reward {

/// One \boxed{...} or \fbox{...}.
struct Box {
  std::string_view content;
  size_t begin = 0, end = 0;  ///< bytes of the whole command in the text
};

/// The boxes of a text that are closed, without those inside of others, in order. `\boxed 7` and
/// `\boxed7` hold what follows up to a dollar sign, a new line or the end. Linear in the text.
std::vector<Box> find_boxes(std::string_view text);

/// What the last box and those joined to it hold, with ", " between: boxes are joined if between
/// them stands one statement that ends with "and", "or" or a comma. Empty if the last box stands
/// alone.
std::optional<std::string> joined_boxes(std::string_view text, const std::vector<Box>& boxes);

}  // namespace moerl::reward
