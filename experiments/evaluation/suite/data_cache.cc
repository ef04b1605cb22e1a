#include "experiments/evaluation/suite/data_cache.h"

#include "common/check.h"
#include "common/file.h"
#include "common/sha256.h"

namespace moerl::eval {
namespace {

namespace fs = std::filesystem;

void check_hash(const Suite& suite, const fs::path& file, const std::string& content) {
  if (suite.source.sha256.empty()) return;
  const std::string hash = sha256(content);
  if (hash != suite.source.sha256)
    throw IoError(concat(file.string(), " is not the file of suite ", suite.name,
                         ": its sha256 is ", hash, ", expected ", suite.source.sha256,
                         "; remove it and run: moerl data get ", suite.name));
}

}  // namespace

fs::path DataCache::path_of(const Suite& suite) const {
  const fs::path file = suite.source.file;
  if (file.is_absolute()) return file;
  if (!suite.directory.empty() && fs::exists(suite.directory / file)) return suite.directory / file;
  return folder_ / file;
}

fs::path DataCache::require(const Suite& suite) const {
  if (suite.source.format == "task") return {};
  const fs::path path = path_of(suite);
  if (!fs::exists(path)) {
    const std::string get = concat("run: moerl data get ", suite.name);
    throw IoError(concat("the data of suite ", suite.name, " is not here: expected ", path.string(),
                         suite.source.url.empty() ? concat("; ", get, " --from FILE")
                                                  : concat("; ", get, " (or, with a file from ",
                                                           suite.source.url, ", --from FILE)")));
  }
  if (!suite.source.sha256.empty()) check_hash(suite, path, read_file(path));
  return path;
}

fs::path DataCache::get(const Suite& suite, const DownloadLimits& limits,
                        const std::function<void(int64_t, int64_t)>& on_progress) const {
  if (suite.source.format == "task" || has(suite) || suite.source.url.empty())
    return require(suite);
  const fs::path path = path_of(suite);
  try {
    download(suite.source.url, path, suite.source.sha256, limits, on_progress);
  } catch (const IoError& error) {
    throw IoError(concat(error.what(), "; without a network, put the file at ", path.string(),
                         " or run: moerl data get ", suite.name, " --from FILE"));
  }
  return path;
}

fs::path DataCache::add(const Suite& suite, const fs::path& from) const {
  const fs::path name = fs::path(suite.source.file).filename(), target = path_of(suite);
  std::string others;
  const auto try_file = [&](const fs::path& file) {
    const std::string content = read_file(file);
    if (!suite.source.sha256.empty()) {
      const std::string hash = sha256(content);
      if (hash != suite.source.sha256) {
        others += concat("\n  ", file.string(), " has sha256 ", hash);
        return false;
      }
    }
    fs::create_directories(target.parent_path());
    write_file_atomic(target, content);
    return true;
  };
  if (!fs::exists(from)) throw IoError(from.string() + " does not exist");
  if (!fs::is_directory(from)) {
    if (try_file(from)) return target;
  } else {
    for (const fs::directory_entry& entry :
         fs::recursive_directory_iterator(from, fs::directory_options::skip_permission_denied))
      if (entry.is_regular_file() && entry.path().filename() == name && try_file(entry.path()))
        return target;
  }
  throw IoError(concat("no file of suite ", suite.name, " under ", from.string(), ": expected ",
                       name.string(), " with sha256 ", suite.source.sha256, others));
}

}  // namespace moerl::eval
