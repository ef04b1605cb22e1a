#pragma once
// A reader of TensorBoard event files, written from their format alone.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace moerl::testing {

struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string file_version;
  std::map<std::string, float> scalars;
};

/// CRC-32C, bit by bit.
inline uint32_t slow_crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
  }
  return ~crc;
}
inline uint32_t slow_masked_crc(std::string_view bytes) {
  return std::rotr(slow_crc32c(bytes), 15) + 0xA282EAD8;
}

/// Takes values off the front of a protocol buffer message.
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view bytes) : bytes_(bytes) {}
  bool done() const { return bytes_.empty(); }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
  }
  template <typename T>
  T fixed() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view bytes() { return take(varint()); }

 private:
  std::string_view take(size_t n) {
    if (n > bytes_.size()) throw std::runtime_error("a message is cut short");
    const std::string_view part = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return part;
  }
  std::string_view bytes_;
};

inline Event parse_event(std::string_view bytes) {
  Event event;
  for (ProtoReader in(bytes); !in.done();) {
    const uint64_t key = in.varint();
    if (key == (1 << 3 | 1)) {
      event.wall_time = in.fixed<double>();
    } else if (key == (2 << 3 | 0)) {
      event.step = static_cast<int64_t>(in.varint());
    } else if (key == (3 << 3 | 2)) {
      event.file_version = in.bytes();
    } else if (key == (5 << 3 | 2)) {
      for (ProtoReader summary(in.bytes()); !summary.done();) {
        EXPECT_EQ(summary.varint(), uint64_t{1 << 3 | 2});
        std::string tag;
        for (ProtoReader value(summary.bytes()); !value.done();) {
          const uint64_t value_key = value.varint();
          if (value_key == (1 << 3 | 2)) {
            tag = value.bytes();
          } else {
            EXPECT_EQ(value_key, uint64_t{2 << 3 | 5});
            event.scalars[tag] = value.fixed<float>();
          }
        }
      }
    } else {
      ADD_FAILURE() << "unknown key " << key;
      return event;
    }
  }
  return event;
}

/// All events; every record's two checksums are expected to fit.
inline std::vector<Event> read_event_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<Event> events;
  for (size_t at = 0; at < text.size();) {
    ProtoReader head(std::string_view(text).substr(at, 12));
    const auto length = head.fixed<uint64_t>();
    EXPECT_EQ(head.fixed<uint32_t>(), slow_masked_crc(std::string_view(text).substr(at, 8)));
    const std::string_view data = std::string_view(text).substr(at + 12, length);
    ProtoReader tail(std::string_view(text).substr(at + 12 + length, 4));
    EXPECT_EQ(tail.fixed<uint32_t>(), slow_masked_crc(data));
    events.push_back(parse_event(data));
    at += 16 + length;
  }
  return events;
}

inline std::filesystem::path only_event_file(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().filename().string().starts_with("events.out.tfevents."))
      found.push_back(entry.path());
  EXPECT_EQ(found.size(), 1u);
  return found.at(0);
}

}  // namespace moerl::testing
