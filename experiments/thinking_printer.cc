#include "experiments/thinking_printer.h"

#include "experiments/partial_match.h"

namespace moerl {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";
constexpr std::string_view kDim = "\x1b[2m", kNormal = "\x1b[0m";

}  // namespace

ThinkingPrinter::ThinkingPrinter(std::ostream& out, bool is_terminal, bool starts_inside)
    : out_(out), is_terminal_(is_terminal) {
  if (!starts_inside) return;
  set_inside(true);
  print("<think>\n");
}

void ThinkingPrinter::set_inside(bool inside) {
  inside_ = inside;
  if (is_terminal_) out_ << (inside ? kDim : kNormal);
}

void ThinkingPrinter::print(std::string_view text) {
  if (!is_terminal_) {
    out_ << text;
    return;
  }
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F)
      out_ << "\uFFFD";
    else
      out_ << c;
  }
}

void ThinkingPrinter::push(std::string_view piece) {
  held_ += piece;
  while (true) {
    const std::string_view tag = inside_ ? kClose : kOpen;
    const size_t at = held_.find(tag);
    if (at == std::string::npos) break;
    print(std::string_view(held_).substr(0, at));
    if (!inside_) set_inside(true);
    print(tag);
    if (tag == kClose) set_inside(false);
    held_.erase(0, at + tag.size());
  }
  const size_t keep = partial_match(held_, inside_ ? kClose : kOpen);
  print(std::string_view(held_).substr(0, held_.size() - keep));
  held_.erase(0, held_.size() - keep);
  out_.flush();
}

void ThinkingPrinter::finish() {
  print(held_);
  held_.clear();
  if (inside_) set_inside(false);
  out_.flush();
}

}  // namespace moerl
