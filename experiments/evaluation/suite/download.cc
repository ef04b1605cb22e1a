#include "experiments/evaluation/suite/download.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "common/check.h"
#include "common/file.h"
#include "common/sha256.h"

namespace moerl::eval {
namespace {

namespace fs = std::filesystem;

constexpr long kMaxRedirects = 5;

/// The file that is being written; one process at a time.
class PartFile {
 public:
  explicit PartFile(const fs::path& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) fail();
    // A file that was renamed or removed between the two is its predecessor's.
    struct stat opened {
    }, named{};
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 || ::fstat(fd_, &opened) != 0 ||
        ::stat(path.c_str(), &named) != 0 || opened.st_ino != named.st_ino) {
      ::close(fd_);
      throw IoError(path.string() + ": another process downloads it");
    }
    if (::ftruncate(fd_, 0) != 0) fail();
  }
  ~PartFile() {
    // Before the lock goes: a successor's file of the same name is not removed.
    if (!is_renamed_) ::unlink(path_.c_str());
    ::close(fd_);
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  bool write(const char* data, size_t size) {
    while (size > 0) {
      const ssize_t n = ::write(fd_, data, size);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        error_ = std::strerror(errno);
        return false;
      }
      data += n;
      size -= static_cast<size_t>(n);
      size_ += n;
    }
    return true;
  }
  int64_t size() const { return size_; }
  const std::string& error() const { return error_; }

  void rename_to(const fs::path& target) {
    sync_path(path_);
    fs::rename(path_, target);
    is_renamed_ = true;
    sync_path(target.parent_path());
  }

 private:
  [[noreturn]] void fail() const {
    throw IoError(concat(path_.string(), ": ", std::strerror(errno)));
  }

  const fs::path path_;
  int fd_ = -1;
  int64_t size_ = 0;
  std::string error_;
  bool is_renamed_ = false;
};

struct Transfer {
  PartFile& part;
  const DownloadLimits& limits;
  const std::function<void(int64_t, int64_t)>& on_progress;
  CURL* curl;
  bool is_too_large = false;
};

size_t on_data(char* data, size_t, size_t size, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  transfer.is_too_large =
      transfer.part.size() + static_cast<int64_t>(size) > transfer.limits.max_bytes;
  if (transfer.is_too_large || !transfer.part.write(data, size)) return 0;  // curl stops
  if (transfer.on_progress) {
    curl_off_t total = 0;
    curl_easy_getinfo(transfer.curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &total);
    transfer.on_progress(transfer.part.size(), total < 0 ? 0 : total);
  }
  return size;
}

void fetch(const std::string& url, PartFile& part, const DownloadLimits& limits,
           const std::function<void(int64_t, int64_t)>& on_progress) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  check_internal(initialised == CURLE_OK, "libcurl does not start");
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 curl_easy_cleanup);
  check_internal(curl != nullptr, "libcurl gives no handle");
  Transfer transfer{part, limits, on_progress, curl.get()};
  char reason[CURL_ERROR_SIZE] = "";
  const auto set = [&](CURLoption option, auto value) {
    check_internal(curl_easy_setopt(curl.get(), option, value) == CURLE_OK,
                   "libcurl refuses option ", static_cast<int>(option));
  };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "https,http");
  set(CURLOPT_REDIR_PROTOCOLS_STR, url.starts_with("https:") ? "https" : "https,http");
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_MAXREDIRS, kMaxRedirects);
  set(CURLOPT_FAILONERROR, 1L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_USERAGENT, "moerl");
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits.connect.count()));
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(limits.stall.count()));
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(limits.total.count()));
  set(CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(limits.max_bytes));
  set(CURLOPT_ERRORBUFFER, &reason[0]);
  set(CURLOPT_WRITEFUNCTION, &on_data);
  set(CURLOPT_WRITEDATA, &transfer);
  const CURLcode code = curl_easy_perform(curl.get());
  if (code == CURLE_OK) return;
  if (!part.error().empty()) throw IoError(concat("cannot store ", url, ": ", part.error()));
  if (transfer.is_too_large || code == CURLE_FILESIZE_EXCEEDED)
    throw IoError(concat(url, " is larger than ", limits.max_bytes, " bytes"));
  throw IoError(
      concat("cannot download ", url, ": ", reason[0] != '\0' ? reason : curl_easy_strerror(code)));
}

}  // namespace

void download(const std::string& url, const fs::path& target, const std::string& sha256,
              const DownloadLimits& limits,
              const std::function<void(int64_t, int64_t)>& on_progress) {
  fs::create_directories(target.parent_path());
  const fs::path path = target.string() + ".part";
  PartFile part(path);
  fetch(url, part, limits, on_progress);
  if (!sha256.empty())
    if (const std::string hash = sha256_file(path); hash != sha256)
      throw IoError(concat(url, " holds another file: its sha256 is ", hash, " (", part.size(),
                           " bytes), expected ", sha256));
  part.rename_to(target);
}

}  // namespace moerl::eval
