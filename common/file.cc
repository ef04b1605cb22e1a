#include "common/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/check.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const char* what, const fs::path& path) {
  throw IoError(concat("cannot ", what, " ", path.string(), ": ", std::strerror(errno)));
}

/// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, const char* what, mode_t mode = 0644)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {
    if (fd_ < 0) fail(what, path);
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::string read_file(const fs::path& path) {
  Descriptor fd(path, O_RDONLY, "read");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) fail("read", path);
  std::string content;
  content.reserve(static_cast<size_t>(status.st_size));
  char buffer[1 << 16];
  while (true) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read", path);
    if (n == 0) return content;
    content.append(buffer, static_cast<size_t>(n));
  }
}

void write_file_atomic(const fs::path& path, std::string_view content) {
  fs::path aside = path;
  aside += ".tmp";
  {
    Descriptor fd(aside, O_WRONLY | O_CREAT | O_TRUNC, "write");
    size_t written = 0;
    while (written < content.size()) {
      const ssize_t n = ::write(fd.get(), content.data() + written, content.size() - written);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("write", aside);
      written += static_cast<size_t>(n);
    }
    if (::fsync(fd.get()) != 0) fail("sync", aside);
  }
  if (::rename(aside.c_str(), path.c_str()) != 0) fail("rename to", path);
  sync_path(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void sync_path(const fs::path& path) {
  Descriptor fd(path, O_RDONLY, "sync");
  if (::fsync(fd.get()) != 0) fail("sync", path);
}

void rename_directory_atomic(const fs::path& from, const fs::path& to) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(from))
    if (entry.is_regular_file()) sync_path(entry.path());
  sync_path(from);
  if (fs::exists(to)) {
    fs::path old = to;
    old += ".old";
    fs::remove_all(old);
    if (::rename(to.c_str(), old.c_str()) != 0) fail("replace", to);
    if (::rename(from.c_str(), to.c_str()) != 0) fail("rename to", to);
    fs::remove_all(old);
  } else if (::rename(from.c_str(), to.c_str()) != 0) {
    fail("rename to", to);
  }
  sync_path(to.has_parent_path() ? to.parent_path() : fs::path("."));
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  Descriptor fd(path, O_RDONLY, "open");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) fail("open", path);
  if (!S_ISREG(status.st_mode)) throw IoError(concat("cannot map ", path.string(), ": not a file"));
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) fail("map", path);
  data_ = static_cast<const char*>(data);
}

void MappedFile::release(std::string_view part) const {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t begin = (first + page - 1) / page * page,
                  end = (first + part.size()) / page * page;
  // A private mapping of a file without writes: the pages come back from the file.
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

}  // namespace moerl
