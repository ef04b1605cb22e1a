#include "reward/option_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "common/check.h"

namespace moerl::reward {

const std::string* OptionReader::find(std::string_view name) {
  known_.emplace_back(name);
  const auto it = options_.find(std::string(name));
  return it == options_.end() ? nullptr : &it->second;
}

double OptionReader::number(std::string_view name, double fallback, double low, double high) {
  const std::string* text = find(name);
  if (!text) return fallback;
  double value = 0;
  const char* end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, value);
  check(
      error == std::errc() && rest == end && std::isfinite(value) && low <= value && value <= high,
      "verifier '", verifier_, "': option ", name, " is '", *text, "', expected a number in [", low,
      ", ", high, "]");
  return value;
}

bool OptionReader::flag(std::string_view name, bool fallback) {
  const std::string* text = find(name);
  if (!text) return fallback;
  const bool is_true = *text == "true" || *text == "1";
  check(is_true || *text == "false" || *text == "0", "verifier '", verifier_, "': option ", name,
        " is '", *text, "', expected true or false");
  return is_true;
}

size_t OptionReader::choice(std::string_view name, size_t fallback,
                            std::initializer_list<std::string_view> words) {
  const std::string* text = find(name);
  if (!text) return fallback;
  const auto it = std::find(words.begin(), words.end(), *text);
  if (it == words.end()) {
    std::string expected;
    for (std::string_view word : words)
      expected += (expected.empty() ? "" : ", ") + std::string(word);
    check(false, "verifier '", verifier_, "': option ", name, " is '", *text,
          "', expected one of: ", expected);
  }
  return static_cast<size_t>(it - words.begin());
}

std::string OptionReader::text(std::string_view name, std::string_view fallback) {
  const std::string* text = find(name);
  return text ? *text : std::string(fallback);
}

void OptionReader::finish() const {
  for (const auto& [name, value] : options_) {
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    std::string known;
    for (const std::string& each : known_) known += (known.empty() ? "" : ", ") + each;
    check(false, "verifier '", verifier_, "': unknown option '", name,
          "', expected one of: ", known.empty() ? "(it has none)" : known);
  }
}

}  // namespace moerl::reward
