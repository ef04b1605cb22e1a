#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace moerl::eval {

/// The content of a gzip file (RFC 1952). @param name  for errors.
/// @throws IoError if it is damaged or larger than 1 GiB.
std::string gunzip(std::string_view bytes, const std::string& name);

struct ZipMember {
  std::string name;
  std::string content;
};

/// The files of a ZIP archive (PKWARE APPNOTE 6.3, without ZIP64, encryption and splitting), stored
/// or deflated, in the order of its directory; folders are left out. Checks every CRC.
/// @throws IoError as gunzip.
std::vector<ZipMember> read_zip(std::string_view bytes, const std::string& name);

}  // namespace moerl::eval
