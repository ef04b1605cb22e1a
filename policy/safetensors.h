#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/file.h"
#include "kernels/tensor.h"

namespace moerl::policy {

/// Element types of the safetensors format, in the order in which its reference writer puts them
/// (later ones first).
enum class SafetensorsDtype : uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

/// The format's name of the type, such as "BF16" or "F8_E4M3".
std::string_view dtype_name(SafetensorsDtype dtype);
int64_t dtype_bits(SafetensorsDtype dtype);

/// One tensor of a mapped file: row-major, little endian, of any alignment.
struct TensorView {
  SafetensorsDtype dtype;
  Shape shape;
  std::span<const std::byte> data;
};

/// Converts F32, BF16, F16 or F8_E4M3 (e4m3fn: bias 7, largest 448, no infinity) to fp32, exactly.
/// @param out  shape.numel() values, overwritten.
/// @throws IoError if the type is another.
void convert_to_f32(const TensorView& tensor, float* out);

/// One safetensors file, mapped. The whole header is checked at once: at most 100 MB, valid JSON,
/// no name twice, each tensor as long as its shape and type say, all of them together covering the
/// data without a gap or an overlap. Const and thread safe.
class SafetensorsFile {
 public:
  /// @throws IoError naming the file, the tensor, what was got and what was expected.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  /// The text pairs of `__metadata__`.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  /// Valid as long as the file object. @throws IoError if there is no such tensor.
  const TensorView& tensor(std::string_view name) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  void read_header(std::string_view header, std::span<const std::byte> data);

  MappedFile file_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// The weights of a Hugging Face model directory: `model.safetensors`, or else the shards that
/// `model.safetensors.index.json` lists. An F8_E4M3 matrix `w` of [R, C] comes with `w_scale_inv`
/// F32 [ceil(R/128), ceil(C/128)], maybe in another shard, and means
///
///   value[r, c] = w[r, c] * w_scale_inv[r / 128, c / 128]
///
/// (DeepSeek-V3, README_WEIGHTS.md). Const and thread safe.
class CheckpointReader {
 public:
  /// Maps every shard. @throws IoError if a file is missing or corrupt, or the index names a tensor
  ///   that its shard lacks.
  explicit CheckpointReader(const std::filesystem::path& directory);

  /// All tensors in name order, without the scales of F8_E4M3 tensors.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  /// The stored bytes, valid as long as the reader. @throws IoError if there is no such tensor.
  const TensorView& tensor(std::string_view name) const;
  /// Reads a tensor as fp32, its block scales applied.
  /// @param out  expected.numel() values, overwritten.
  /// @throws IoError if the tensor is missing, has another shape or a type without conversion, or
  ///   its scales are missing or do not fit.
  void read_f32(std::string_view name, float* out, const Shape& expected) const;

 private:
  void read_index(const std::filesystem::path& index);
  void add_file(const std::filesystem::path& path);
  std::string where(std::string_view name) const;

  struct Entry {
    const SafetensorsFile* file;
    const TensorView* view;
  };
  std::filesystem::path directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Entry, std::less<>> tensors_;
  std::vector<std::string> names_;
};

/// Collects tensors and writes them. The data stay with the caller and must live until written.
/// The bytes are those of the reference writer: larger types first, then by name, the header padded
/// with spaces to a multiple of 8; the order of add() does not matter.
class SafetensorsWriter {
 public:
  /// @param data  shape.numel() fp32 or bf16 values; may be null if there are none.
  /// @throws std::invalid_argument if the name is taken or reserved, or the type is neither F32 nor
  ///   BF16.
  void add(std::string name, SafetensorsDtype dtype, Shape shape, const void* data);

  /// Replaces the file atomically: written beside it, fsynced, renamed. @throws IoError.
  void write(const std::filesystem::path& path) const;
  /// Writes a model directory: `model.safetensors`, or `model-00001-of-0000N.safetensors` … and
  /// `model.safetensors.index.json`, tensors in name order, a new shard where the next tensor would
  /// make it larger than `max_shard_bytes` (data only; a larger tensor has a shard to itself).
  /// Weight files of an earlier write are removed. Each file is atomic, the set of them is not.
  /// @throws IoError; std::invalid_argument if max_shard_bytes is not positive.
  void write_sharded(const std::filesystem::path& directory, int64_t max_shard_bytes) const;

 private:
  struct Item {
    SafetensorsDtype dtype;
    Shape shape;
    const void* data;
    int64_t bytes;
  };
  using Items = std::map<std::string, Item>;
  static void write_items(const std::filesystem::path& path,
                          std::vector<const Items::value_type*> items);

  Items items_;
};

}  // namespace moerl::policy
