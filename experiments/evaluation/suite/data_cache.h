#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "experiments/evaluation/suite/download.h"
#include "experiments/evaluation/suite/suite.h"

namespace moerl::eval {

/// A folder with the suites' files, each as it is published.
class DataCache {
 public:
  explicit DataCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// Where the suite's file is or belongs: beside the suite for a suite of a user's own that has it
  /// there, else in the cache.
  std::filesystem::path path_of(const Suite& suite) const;
  bool has(const Suite& suite) const { return std::filesystem::exists(path_of(suite)); }

  /// The suite's file, its hash checked; empty for suites that need none.
  /// @throws IoError if it is missing, saying where it belongs and where it can be had, or if its
  ///   SHA-256 is another.
  std::filesystem::path require(const Suite& suite) const;

  /// As require, but a file that is missing is downloaded from the suite's address.
  /// @throws IoError as require and download, saying how to do without a network.
  std::filesystem::path get(
      const Suite& suite, const DownloadLimits& limits = {},
      const std::function<void(int64_t done, int64_t total)>& on_progress = {}) const;

  /// Puts the file with the suite's name and hash that lies under `from` (a folder, searched with
  /// its sub-folders, or the file itself) into the cache.
  /// @throws IoError if there is no such file, naming those that have another hash.
  std::filesystem::path add(const Suite& suite, const std::filesystem::path& from) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace moerl::eval
