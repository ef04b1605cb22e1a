#include "policy/tokenizer/utf8.h"

#include <cstdint>

namespace moerl::policy {
namespace {

using Kind = Utf8Step::Kind;

/// The bytes that may follow a lead byte, after Unicode 15, table 3-7.
struct LeadByte {
  size_t length;
  uint8_t second_min = 0x80, second_max = 0xBF;
};

LeadByte lead_byte(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

Utf8Step next_utf8(std::string_view bytes) {
  const LeadByte lead = lead_byte(static_cast<uint8_t>(bytes[0]));
  if (lead.length == 0) return {Kind::kInvalid, 1};
  uint8_t min = lead.second_min, max = lead.second_max;
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Kind::kIncomplete, i};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if (byte < min || byte > max) return {Kind::kInvalid, i};
    min = 0x80;
    max = 0xBF;
  }
  return {Kind::kValid, lead.length};
}

size_t valid_utf8_prefix(std::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    if (static_cast<uint8_t>(bytes[i]) < 0x80) {
      ++i;
      continue;
    }
    const Utf8Step step = next_utf8(bytes.substr(i));
    if (step.kind != Kind::kValid) return i;
    i += step.length;
  }
  return i;
}

size_t append_utf8_lossy(std::string_view bytes, bool keep_incomplete, std::string& out) {
  size_t used = 0;
  while (used < bytes.size()) {
    const size_t valid = valid_utf8_prefix(bytes.substr(used));
    out.append(bytes.substr(used, valid));
    used += valid;
    if (used == bytes.size()) break;
    const Utf8Step step = next_utf8(bytes.substr(used));
    if (step.kind == Kind::kIncomplete && keep_incomplete) break;
    out.append("\xEF\xBF\xBD");
    used += step.length;
  }
  return used;
}

}  // namespace moerl::policy
