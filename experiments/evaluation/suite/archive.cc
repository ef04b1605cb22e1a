#include "experiments/evaluation/suite/archive.h"

#include <zlib.h>

#include <algorithm>
#include <cstdint>

#include "common/check.h"

namespace moerl::eval {
namespace {

constexpr size_t kMaxContent = size_t{1} << 30;

/// @param window_bits  zlib's: 15 + 16 for gzip, -15 for raw deflate.
std::string inflate_all(std::string_view bytes, int window_bits, const std::string& name) {
  z_stream stream{};
  if (inflateInit2(&stream, window_bits) != Z_OK) throw IoError(name + ": zlib cannot start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string content;
  int status = Z_OK;
  while (status == Z_OK && content.size() < kMaxContent) {
    const size_t filled = content.size(), step = std::max<size_t>(size_t{1} << 16, filled / 2);
    content.resize(filled + step);
    stream.next_out = reinterpret_cast<Bytef*>(content.data() + filled);
    stream.avail_out = static_cast<uInt>(step);
    status = inflate(&stream, Z_NO_FLUSH);
    content.resize(content.size() - stream.avail_out);
    // A gzip file may be several, one after the other.
    if (status == Z_STREAM_END && stream.avail_in > 0 && window_bits > 15)
      status = inflateReset(&stream);
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END)
    throw IoError(
        concat(name, ": the compressed data is damaged, cut off or too large (zlib ", status, ")"));
  return content;
}

/// Little-endian integers at checked places of an archive.
class Reader {
 public:
  Reader(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  std::string_view part(size_t at, size_t size) const {
    if (at > bytes_.size() || size > bytes_.size() - at)
      throw IoError(name_ + ": the zip archive is cut off");
    return bytes_.substr(at, size);
  }
  uint32_t u32(size_t at) const {
    const std::string_view b = part(at, 4);
    uint32_t value = 0;
    for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(b[i]);
    return value;
  }
  uint32_t u16(size_t at) const {
    const std::string_view b = part(at, 2);
    return static_cast<unsigned char>(b[0]) | uint32_t{static_cast<unsigned char>(b[1])} << 8;
  }

 private:
  std::string_view bytes_;
  const std::string& name_;
};

}  // namespace

std::string gunzip(std::string_view bytes, const std::string& name) {
  return inflate_all(bytes, 15 + 16, name);
}

std::vector<ZipMember> read_zip(std::string_view bytes, const std::string& name) {
  const Reader reader(bytes, name);
  const size_t end = bytes.rfind("PK\x05\x06");
  if (end == std::string_view::npos) throw IoError(name + ": not a zip archive");
  constexpr size_t kEndSize = 22;
  reader.part(end, kEndSize);
  const uint32_t num_entries = reader.u16(end + 10);
  size_t at = reader.u32(end + 16);
  std::vector<ZipMember> members;
  for (uint32_t i = 0; i < num_entries; ++i) {
    if (reader.part(at, 4) != "PK\x01\x02") throw IoError(name + ": the zip directory is damaged");
    const uint32_t method = reader.u16(at + 10), crc = reader.u32(at + 16);
    const uint32_t packed_size = reader.u32(at + 20), size = reader.u32(at + 24);
    const uint32_t name_size = reader.u16(at + 28);
    const size_t local = reader.u32(at + 42);
    const std::string member(reader.part(at + 46, name_size));
    at += 46 + name_size + reader.u16(at + 30) + reader.u16(at + 32);
    if (member.ends_with('/')) continue;
    const size_t data = local + 30 + reader.u16(local + 26) + reader.u16(local + 28);
    const std::string_view packed = reader.part(data, packed_size);
    const std::string where = name + ":" + member;
    if (method != 0 && method != 8)
      throw IoError(concat(where, ": compression method ", method, ", expected 0 or 8"));
    std::string content = method == 0 ? std::string(packed) : inflate_all(packed, -15, where);
    if (content.size() != size ||
        crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(size)) != crc)
      throw IoError(where + ": the checksum differs");
    members.push_back({member, std::move(content)});
  }
  return members;
}

}  // namespace moerl::eval
