#pragma once
#include <ostream>
#include <string>
#include <string_view>

namespace moerl {

/// Shows a model's text as it comes, with what stands inside <think> … </think> apart: dimmed on a
/// terminal, between its tags elsewhere. On a terminal control characters of the text are replaced,
/// as they could do anything there.
class ThinkingPrinter {
 public:
  /// @param starts_inside  the prompt has opened <think> already; the tag is then printed first.
  ThinkingPrinter(std::ostream& out, bool is_terminal, bool starts_inside);
  /// Pieces need not end where tags or lines do, but must not cut a UTF-8 character.
  void push(std::string_view piece);
  /// Prints what was held back and ends the dimming.
  void finish();

 private:
  void print(std::string_view text);
  void set_inside(bool inside);

  std::ostream& out_;
  bool is_terminal_, inside_ = false;
  std::string held_;  // may be the beginning of a tag
};

}  // namespace moerl
