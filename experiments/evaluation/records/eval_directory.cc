#include "experiments/evaluation/records/eval_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"

namespace moerl::eval {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kPartial = "samples.partial.jsonl";
constexpr int64_t kSyncEvery = 256;

/// Calls f(line, "file:line") for every whole line; returns the size of the part made of such.
template <typename F>
size_t for_each_line(const fs::path& path, const F& f) {
  const std::string text = read_file(path);
  size_t begin = 0;
  for (int64_t number = 1;; ++number) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) return begin;
    f(std::string_view(text).substr(begin, end - begin), concat(path.string(), ":", number));
    begin = end + 1;
  }
}

template <typename Record>
std::string lines_of(const std::vector<Record>& records) {
  std::string text;
  for (const Record& record : records) text += to_json_line(record) + "\n";
  return text;
}

/// The first place where two configurations differ, as a dotted path with both values.
std::string first_difference(const json& was, const json& is, const std::string& at) {
  if (was == is) return {};
  if (was.is_object() && is.is_object()) {
    for (const auto& [name, value] : was.items()) {
      const std::string path = at.empty() ? name : at + "." + name;
      if (!is.contains(name)) return path + " is missing";
      if (std::string d = first_difference(value, is.at(name), path); !d.empty()) return d;
    }
  } else if (was.is_array() && is.is_array() && was.size() == is.size()) {
    for (size_t i = 0; i < was.size(); ++i)
      if (std::string d = first_difference(was[i], is[i], concat(at, ".", i)); !d.empty()) return d;
  }
  return concat(at, " was ", was.dump(), " and is ", is.dump());
}

void write_all(int fd, std::string_view text, const fs::path& path) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw IoError(concat(path.string(), ": ", std::strerror(errno)));
    text.remove_prefix(static_cast<size_t>(written));
  }
}

/// Whether an evaluation was begun: one that ended before its first sample may be replaced.
bool has_samples(const fs::path& folder) {
  std::error_code none;
  const auto partial = fs::file_size(folder / kPartial, none);
  return fs::exists(folder / "samples.jsonl") || (!none && partial > 0);
}

std::map<std::string, size_t> suite_order(const std::vector<ProblemRecord>& problems) {
  std::map<std::string, size_t> order;
  for (const ProblemRecord& p : problems) order.emplace(p.suite, order.size());
  return order;
}

}  // namespace

EvalDirectory::EvalDirectory(const fs::path& path, const std::string& config_json,
                             const std::vector<ProblemRecord>& problems)
    : path_(path), problems_(problems) {
  fs::create_directories(path_);
  lock_ = ::open((path_ / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0 || ::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    if (lock_ >= 0) ::close(lock_);
    throw IoError(path_.string() + ": another process evaluates into this folder");
  }
  try {
    if (fs::exists(path_ / "eval.json") && has_samples(path_)) {
      const std::string difference = first_difference(
          try_parse_json(read_file(path_ / "eval.json")), parse_json(config_json), "");
      if (!difference.empty())
        throw ConfigError(concat(path_.string(), " holds another evaluation: ", difference,
                                 "; name another --output"));
    } else {
      write_file_atomic(path_ / "problems.jsonl", lines_of(problems_));
      write_file_atomic(path_ / "eval.json", config_json);
    }
    open_partial();
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

EvalDirectory::~EvalDirectory() {
  if (partial_ >= 0) ::close(partial_);
  ::close(lock_);
}

void EvalDirectory::open_partial() {
  const auto note = [this](std::string_view line, const std::string& where) {
    recorded_.insert(key_of(record_from_json(line, where)));
  };
  if (fs::exists(path_ / "samples.jsonl")) {
    for_each_line(path_ / "samples.jsonl", note);
    return;
  }
  const fs::path file = path_ / kPartial;
  if (fs::exists(file)) {
    // What follows the last whole line was being written when the process ended.
    const size_t whole = for_each_line(file, note);
    fs::resize_file(file, whole);
  }
  partial_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (partial_ < 0) throw IoError(concat(file.string(), ": ", std::strerror(errno)));
}

void EvalDirectory::append(const EvalRecord& record) {
  if (!recorded_.insert(key_of(record)).second) return;
  check_internal(partial_ >= 0, "a record for a complete evaluation");
  write_all(partial_, to_json_line(record) + "\n", path_ / kPartial);
  if (++unsynced_ < kSyncEvery) return;
  unsynced_ = 0;
  if (::fdatasync(partial_) != 0)
    throw IoError(concat((path_ / kPartial).string(), ": ", std::strerror(errno)));
}

void EvalDirectory::complete(int64_t num_samples) {
  check_internal(static_cast<int64_t>(recorded_.size()) == num_samples, "an evaluation of ",
                 num_samples, " samples ends with ", recorded_.size());
  if (fs::exists(path_ / "samples.jsonl")) {
    fs::remove(path_ / kPartial);
    return;
  }
  const auto order = suite_order(problems_);
  std::vector<std::tuple<size_t, int64_t, int64_t, std::string>> lines;
  for_each_line(path_ / kPartial, [&](std::string_view line, const std::string& where) {
    const EvalRecord r = record_from_json(line, where);
    lines.emplace_back(order.at(r.suite), r.problem, r.sample, line);
  });
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const auto& line : lines) text += std::get<3>(line) + "\n";
  write_file_atomic(path_ / "samples.jsonl", text);
  fs::remove(path_ / kPartial);
}

EvalFiles EvalDirectory::read(const fs::path& path) {
  if (!fs::exists(path / "samples.jsonl"))
    throw IoError(concat(
        path.string(), ": there is no complete evaluation (no samples.jsonl",
        fs::exists(path / kPartial) ? "; run the same command again to finish it" : "", ")"));
  EvalFiles files;
  files.config_json = read_file(path / "eval.json");
  for_each_line(path / "problems.jsonl", [&](std::string_view line, const std::string& where) {
    files.problems.push_back(problem_from_json(line, where));
  });
  for_each_line(path / "samples.jsonl", [&](std::string_view line, const std::string& where) {
    files.records.push_back(record_from_json(line, where));
  });
  return files;
}

void EvalDirectory::write(const fs::path& path, const EvalFiles& files) {
  fs::create_directories(path);
  write_file_atomic(path / "eval.json", files.config_json);
  write_file_atomic(path / "problems.jsonl", lines_of(files.problems));
  write_file_atomic(path / "samples.jsonl", lines_of(files.records));
}

}  // namespace moerl::eval
