#include "policy/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/check.h"
#include "common/json.h"
#include "policy/tokenizer/utf8.h"

namespace moerl::policy {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::string_view kIndexName = "model.safetensors.index.json";

/// A file that appears under its name when it is complete, and otherwise not at all.
class AtomicOutput {
 public:
  explicit AtomicOutput(const fs::path& path) : path_(path), aside_(path.string() + ".tmp") {
    fd_ = ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) fail("create", aside_);
  }
  ~AtomicOutput() {
    if (fd_ >= 0) ::close(fd_);
    if (!committed_) ::unlink(aside_.c_str());
  }
  AtomicOutput(const AtomicOutput&) = delete;
  AtomicOutput& operator=(const AtomicOutput&) = delete;

  /// Writes at a place of the file. What is never written reads as zeros.
  void write_at(int64_t offset, const void* data, size_t size) {
    const char* next = static_cast<const char*>(data);
    while (size > 0) {
      // One call moves at most 2 GiB on Linux; smaller ones keep the size portable.
      const ssize_t n = ::pwrite(fd_, next, std::min(size, size_t{1} << 30), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("write", aside_);
      next += n;
      offset += n;
      size -= static_cast<size_t>(n);
    }
  }

  void commit() {
    if (::fsync(fd_) != 0) fail("sync", aside_);
    const int closed = ::close(fd_);
    fd_ = -1;
    if (closed != 0) fail("close", aside_);
    if (::rename(aside_.c_str(), path_.c_str()) != 0) fail("rename to", path_);
    committed_ = true;
    sync_path(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
  }

 private:
  [[noreturn]] static void fail(const char* what, const fs::path& path) {
    throw IoError(concat("cannot ", what, " ", path.string(), ": ", std::strerror(errno)));
  }
  fs::path path_, aside_;
  int fd_ = -1;
  bool committed_ = false;
};

std::string numbered(int64_t number) {
  std::string digits = std::to_string(number);
  return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
}

/// Whether an earlier write_sharded() may have left the file.
bool is_weight_file(const std::string& name) {
  return name == "model.safetensors" || name == kIndexName ||
         (name.starts_with("model-") && name.ends_with(".safetensors"));
}

void remove_weight_files(const fs::path& directory) {
  std::error_code error;
  // The index goes first, so that no reader follows it into the next write's shards.
  std::vector<fs::path> old = {directory / kIndexName};
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
    if (is_weight_file(entry.path().filename().string())) old.push_back(entry.path());
  for (const fs::path& path : old) {
    if (!error) fs::remove(path, error);
    if (error)
      throw IoError(
          concat("cannot remove old weights in ", directory.string(), ": ", error.message()));
  }
}

}  // namespace

void SafetensorsWriter::add(std::string name, SafetensorsDtype dtype, Shape shape,
                            const void* data) {
  const int64_t bytes = shape.numel() * dtype_bits(dtype) / 8;
  check(data != nullptr || bytes == 0, "safetensors: tensor '", name, "' has no data");
  const std::span<const std::byte> all(static_cast<const std::byte*>(data),
                                       static_cast<size_t>(std::max<int64_t>(bytes, 0)));
  add(std::move(name), dtype, std::move(shape), [all] { return all; });
}

void SafetensorsWriter::add(std::string name, SafetensorsDtype dtype, Shape shape, Source source) {
  check(dtype == SafetensorsDtype::kF32 || dtype == SafetensorsDtype::kBF16 ||
            dtype == SafetensorsDtype::kF8E4M3,
        "safetensors: tensor '", name, "' has dtype ", dtype_name(dtype),
        ", expected F32, BF16 or F8_E4M3");
  check(valid_utf8_prefix(name) == name.size(), "safetensors: a tensor's name is not UTF-8");
  check(name != "__metadata__", "safetensors: '__metadata__' is no name for a tensor");
  for (int64_t dim : shape.dims())
    check(dim >= 0, "safetensors: tensor '", name, "' has shape ", shape);
  const int64_t bytes = shape.numel() * dtype_bits(dtype) / 8;
  const bool is_new =
      items_.try_emplace(name, Item{dtype, std::move(shape), std::move(source), bytes}).second;
  check(is_new, "safetensors: tensor '", name, "' is there already");
}

void SafetensorsWriter::write_items(const fs::path& path,
                                    const std::vector<const Items::value_type*>& items) {
  std::vector<const Items::value_type*> in_file = items;
  std::sort(in_file.begin(), in_file.end(), [](const auto* a, const auto* b) {
    return a->second.dtype != b->second.dtype ? a->second.dtype > b->second.dtype
                                              : a->first < b->first;
  });
  // Appended as a list: the ordered object would search itself for every name.
  Json::object_t header;
  header.emplace_back("__metadata__", Json{{"format", "pt"}});
  std::map<std::string_view, int64_t> offsets;
  int64_t offset = 0;
  for (const auto* item : in_file) {
    const auto& [name, tensor] = *item;
    header.emplace_back(name, Json{{"dtype", dtype_name(tensor.dtype)},
                                   {"shape", tensor.shape.dims()},
                                   {"data_offsets", {offset, offset + tensor.bytes}}});
    offsets[name] = offset;
    offset += tensor.bytes;
  }
  std::string text = Json(std::move(header)).dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();

  AtomicOutput out(path);
  out.write_at(0, &length, sizeof length);
  out.write_at(sizeof length, text.data(), text.size());
  const auto data_begin = static_cast<int64_t>(sizeof length + text.size());
  for (const auto* item : items) {
    const auto& [name, tensor] = *item;
    const std::span<const std::byte> bytes = tensor.source();
    check(static_cast<int64_t>(bytes.size()) == tensor.bytes, "safetensors: tensor '", name,
          "' came as ", bytes.size(), " bytes, expected ", tensor.bytes);
    out.write_at(data_begin + offsets[name], bytes.data(), bytes.size());
  }
  out.commit();
}

void SafetensorsWriter::write(const fs::path& path) const {
  std::vector<const Items::value_type*> items;
  for (const auto& item : items_) items.push_back(&item);
  write_items(path, items);
}

void SafetensorsWriter::write_sharded(const fs::path& directory, int64_t max_shard_bytes) const {
  check(max_shard_bytes > 0, "safetensors: max_shard_bytes is ", max_shard_bytes, ", expected > 0");
  std::vector<std::vector<const Items::value_type*>> shards(1);
  int64_t shard_bytes = 0, total_bytes = 0;
  for (const auto& item : items_) {
    const int64_t bytes = item.second.bytes;
    if (!shards.back().empty() && shard_bytes + bytes > max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back().push_back(&item);
    shard_bytes += bytes;
    total_bytes += bytes;
  }

  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw IoError(concat("cannot create ", directory.string(), ": ", error.message()));
  remove_weight_files(directory);
  if (shards.size() == 1) return write(directory / "model.safetensors");

  std::map<std::string, std::string> weight_map;
  const auto count = static_cast<int64_t>(shards.size());
  for (int64_t i = 0; i < count; ++i) {
    const auto& items = shards[static_cast<size_t>(i)];
    const std::string name =
        concat("model-", numbered(i + 1), "-of-", numbered(count), ".safetensors");
    write_items(directory / name, items);
    for (const auto* item : items) weight_map[item->first] = name;
  }
  Json index;
  index["metadata"] = {{"total_size", total_bytes}};
  index["weight_map"] = weight_map;
  write_file_atomic(directory / kIndexName, index.dump(2) + "\n");
}

}  // namespace moerl::policy
