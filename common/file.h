#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace moerl {

/// The whole file. @throws IoError naming the path and the system's reason.
std::string read_file(const std::filesystem::path& path);

/// Replaces `path` by `content` atomically: written beside it, fsynced, renamed, directory fsynced.
/// After a crash the file holds the old content or the new, never a part. @throws IoError.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);

/// Flushes a file or a directory to the disk. @throws IoError.
void sync_path(const std::filesystem::path& path);

/// Fsyncs every file under `from` and renames the directory to `to`, replacing an older `to`.
/// @throws IoError.
void rename_directory_atomic(const std::filesystem::path& from, const std::filesystem::path& to);

/// A read-only view of a file in memory.
class MappedFile {
 public:
  /// @throws IoError if the file cannot be opened or mapped.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  /// Lets go of the memory of whole pages inside `part`, a piece of bytes(); touched again, they
  /// are read again.
  void release(std::string_view part) const;

 private:
  std::filesystem::path path_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace moerl
