#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace moerl::eval {

struct DownloadLimits {
  int64_t max_bytes = int64_t{1} << 30;
  std::chrono::milliseconds connect{20'000};
  std::chrono::seconds stall{30};  ///< without a byte
  std::chrono::milliseconds total{3'600'000};
};

/// Fetches a file over HTTPS (or HTTP; a redirect never leaves HTTPS) and gives it its name when it
/// is whole, hashed and on the disk; an older `target` stays until then. It is written to
/// `target`.part, which a process that is killed leaves behind and the next one starts anew.
/// Proxies are those of the environment (https_proxy), certificates those of the system.
/// @param sha256  of the whole file; empty: not checked.
/// @param on_progress  bytes so far, and of the whole file or 0 if the server does not say.
/// @throws IoError naming the address and what the server said or which limit was met, or both
///   hashes.
void download(const std::string& url, const std::filesystem::path& target,
              const std::string& sha256, const DownloadLimits& limits = {},
              const std::function<void(int64_t done, int64_t total)>& on_progress = {});

}  // namespace moerl::eval
