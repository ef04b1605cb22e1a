#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/file.h"
#include "kernels/quant/decode.h"
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

/// The type as the decoder of kernels/quant knows it, if that can turn it into fp32.
std::optional<kernels::StoredFloat> stored_float(SafetensorsDtype dtype);

/// Converts F32, BF16, F16 or F8_E4M3 (e4m3fn: bias 7, largest 448, no infinity) to fp32, exactly.
/// @param out  shape.numel() values, overwritten.
/// @throws IoError if the type is another.
void convert_to_f32(const TensorView& tensor, float* out);

/// The header of a safetensors file, understood.
struct SafetensorsContents {
  std::map<std::string, TensorView, std::less<>> tensors;
  std::map<std::string, std::string> metadata;  ///< the text pairs of `__metadata__`
};

/// Reads the bytes of a safetensors file. The whole header is checked at once: at most 100 MB,
/// valid JSON, no name twice, each tensor as long as its shape and type say, all of them together
/// covering the data without a gap or an overlap.
/// @param name  how errors call the file.
/// @return views into `bytes`.
/// @throws IoError naming the file, the tensor, what was got and what was expected.
SafetensorsContents parse_safetensors(const std::string& name, std::span<const std::byte> bytes);

/// One safetensors file, mapped. Const and thread safe.
class SafetensorsFile {
 public:
  /// @throws IoError as parse_safetensors, or if the file cannot be mapped.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorView, std::less<>>& tensors() const {
    return contents_.tensors;
  }
  const std::map<std::string, std::string>& metadata() const { return contents_.metadata; }
  bool contains(std::string_view name) const { return tensors().contains(name); }
  /// Valid as long as the file object. @throws IoError if there is no such tensor.
  const TensorView& tensor(std::string_view name) const;
  /// Lets go of the memory that a tensor's pages take in this process; they are read again when
  /// touched again.
  void release(const TensorView& tensor) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  SafetensorsContents contents_;
};

}  // namespace moerl::policy
