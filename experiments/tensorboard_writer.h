#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace moerl {

/// Writes scalars as a TensorBoard event file: records of (length, masked CRC-32C, Event message,
/// masked CRC-32C), as TensorFlow's record_writer and event.proto define them.
class TensorBoardWriter {
 public:
  /// Replaces the event files of `directory` by a new one. @throws IoError.
  explicit TensorBoardWriter(const std::filesystem::path& directory);

  /// One event with every scalar of the map. Flushed at once.
  void add_scalars(int64_t step, double wall_time_s, const std::map<std::string, double>& scalars);

 private:
  void write_record(const std::string& event);
  std::filesystem::path path_;
  std::ofstream file_;
};

/// CRC-32C (Castagnoli) of the bytes.
uint32_t crc32c(std::string_view bytes);

}  // namespace moerl
