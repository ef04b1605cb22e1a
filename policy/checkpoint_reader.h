#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/exec_context.h"
#include "policy/safetensors.h"

namespace moerl::policy {

/// The weight_map of a `model.safetensors.index.json`: tensor name to the name of a file beside it.
/// @param name  how errors call the text, such as the file's path.
/// @throws IoError listing every entry that names no file of the same directory.
std::map<std::string, std::string> parse_weight_map(const std::string& name, std::string_view text);

/// The weights of a Hugging Face model directory: `model.safetensors`, or else the shards that
/// `model.safetensors.index.json` lists. An F8_E4M3 matrix `w` comes with `w_scale_inv`, maybe in
/// another shard; kernels/quant/fp8_block.h says what they mean. Const and thread safe.
class CheckpointReader {
 public:
  /// Maps every shard and reads every header, and nothing else.
  /// @throws IoError listing all that is wrong: files that are missing or corrupt, tensors that the
  ///   index expects and a shard lacks, and tensors of a shard that the index does not place there.
  explicit CheckpointReader(const std::filesystem::path& directory);

  /// All tensors in name order, without the scales of F8_E4M3 tensors.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  /// The stored bytes, valid as long as the reader. @throws IoError if there is no such tensor.
  const TensorView& tensor(std::string_view name) const;

  /// Why a tensor cannot be read as fp32 of this shape, naming its file: it is missing, has another
  /// shape or a type without conversion, or its scales are missing or do not fit. Empty: it can.
  std::string problem(std::string_view name, const Shape& expected) const;
  /// Writes elements [begin, end) of a tensor, in row order and with block scales applied, as fp32
  /// or, rounded from that to nearest even, as bf16.
  /// Runs on the calling thread, which flushes denormals to zero. REQUIRES: problem() finds none.
  void read(std::string_view name, int64_t begin, int64_t end, DType dtype, void* out) const;
  /// Reads a whole tensor, and lets go of the pages of its file.
  /// @param out  fp32 of the expected shape, overwritten.
  /// @throws IoError with the text of problem().
  void read(ExecContext& ctx, std::string_view name, Tensor& out) const;
  /// Lets go of the pages of a tensor whose stored bytes were looked at. REQUIRES: it is there.
  void release(std::string_view name) const;

 private:
  void read_index(const std::filesystem::path& index);
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

}  // namespace moerl::policy
