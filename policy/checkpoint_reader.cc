#include "policy/checkpoint_reader.h"

#include <algorithm>

#include "common/check.h"
#include "common/json.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/quant/fp8_block.h"

namespace moerl::policy {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kScaleSuffix = "_scale_inv";
constexpr int64_t kChunk = 1 << 18;  // numbers that a thread converts at a time

std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80);
}

/// A list of problems, cut where nobody reads on.
class Problems {
 public:
  template <typename... Parts>
  void add(const Parts&... parts) {
    if (++count_ <= kShown) text_ += concat("\n  ", parts...);
  }
  /// @throws IoError if there are any.
  void raise(const std::string& subject) const {
    if (count_ == 0) return;
    const std::string rest = count_ > kShown ? concat("\n  and ", count_ - kShown, " more") : "";
    throw IoError(subject + text_ + rest);
  }

 private:
  static constexpr int kShown = 50;
  int count_ = 0;
  std::string text_;
};

}  // namespace

std::map<std::string, std::string> parse_weight_map(const std::string& name,
                                                    std::string_view text) {
  check_json(name, text);
  const Json root = parse_json(text);
  const Json map = root.is_object() ? root.value("weight_map", Json()) : Json();
  if (!map.is_object())
    throw IoError(concat(name, ": weight_map is ", map.type_name(),
                         ", expected an object of tensor name to file name"));
  std::map<std::string, std::string> files;
  Problems problems;
  for (const auto& [tensor, file] : map.items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (shard.empty() || shard == "." || shard == ".." ||
        shard.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
      problems.add("weight_map['", tensor, "'] is ", shown(file),
                   ", expected the name of a file beside it");
    files[tensor] = shard;
  }
  problems.raise(name + ":");
  return files;
}

CheckpointReader::CheckpointReader(const fs::path& directory) : directory_(directory) {
  const fs::path single = directory / "model.safetensors";
  const fs::path index = directory / "model.safetensors.index.json";
  if (fs::exists(single)) {
    files_.push_back(std::make_unique<SafetensorsFile>(single));
    for (const auto& [name, view] : files_[0]->tensors()) tensors_[name] = {files_[0].get(), &view};
  } else if (fs::exists(index)) {
    read_index(index);
  } else {
    throw IoError(concat(directory.string(),
                         ": has neither model.safetensors nor model.safetensors.index.json"));
  }
  for (const auto& [name, entry] : tensors_) {
    if (name.ends_with(kScaleSuffix)) {
      const auto weight = tensors_.find(name.substr(0, name.size() - kScaleSuffix.size()));
      if (weight != tensors_.end() && weight->second.view->dtype == SafetensorsDtype::kF8E4M3)
        continue;
    }
    names_.push_back(name);
  }
}

void CheckpointReader::read_index(const fs::path& index) {
  const auto weight_map = parse_weight_map(index.string(), read_file(index));
  Problems problems;
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, shard] : weight_map) {
    if (!shards.contains(shard)) {
      shards[shard] = nullptr;
      try {
        files_.push_back(std::make_unique<SafetensorsFile>(directory_ / shard));
        shards[shard] = files_.back().get();
      } catch (const IoError& error) {
        problems.add(error.what());
      }
    }
    const SafetensorsFile* file = shards[shard];
    if (file == nullptr) continue;
    if (file->contains(name))
      tensors_[name] = {file, &file->tensor(name)};
    else
      problems.add(file->path().string(), ": there is no tensor '", name,
                   "', which the index expects there");
  }
  for (const auto& [shard, file] : shards) {
    if (file == nullptr) continue;
    for (const auto& [name, view] : file->tensors()) {
      const auto listed = weight_map.find(name);
      if (listed == weight_map.end())
        problems.add(file->path().string(), ": tensor '", name, "' is not in the index");
      else if (listed->second != shard)
        problems.add(file->path().string(), ": tensor '", name, "' is here and in ", listed->second,
                     ", where the index expects it; expected once");
    }
  }
  problems.raise(index.string() + ":");
}

const TensorView& CheckpointReader::tensor(std::string_view name) const {
  const auto item = tensors_.find(name);
  if (item == tensors_.end())
    throw IoError(concat(directory_.string(), ": there is no tensor '", name, "' among the ",
                         tensors_.size()));
  return *item->second.view;
}

std::string CheckpointReader::where(std::string_view name) const {
  return concat(tensors_.find(name)->second.file->path().string(), ": tensor '", name, "'");
}

std::string CheckpointReader::problem(std::string_view name, const Shape& expected) const {
  if (!contains(name))
    return concat(directory_.string(), ": there is no tensor '", name, "' among the ",
                  tensors_.size());
  const TensorView& view = tensor(name);
  if (view.shape != expected)
    return concat(where(name), " is ", view.shape, ", expected ", expected);
  if (!stored_float(view.dtype))
    return concat(where(name), " is ", dtype_name(view.dtype),
                  ", expected F32, BF16, F16 or F8_E4M3");
  if (view.dtype != SafetensorsDtype::kF8E4M3) return "";

  const std::string scale_name = concat(name, kScaleSuffix);
  if (view.shape.rank() != 2)
    return concat(where(name), " is F8_E4M3 of shape ", view.shape, ", expected a matrix");
  if (!contains(scale_name))
    return concat(where(name), " is F8_E4M3 but there is no '", scale_name, "'");
  const TensorView& scale = tensor(scale_name);
  const Shape scale_shape = kernels::fp8_scale_shape(view.shape);
  if (scale.dtype != SafetensorsDtype::kF32 || scale.shape != scale_shape)
    return concat(where(scale_name), " is ", dtype_name(scale.dtype), " ", scale.shape,
                  ", expected F32 ", scale_shape, " for a weight of ", view.shape);
  return "";
}

void CheckpointReader::read(std::string_view name, int64_t begin, int64_t end, DType dtype,
                            void* out) const {
  const TensorView& view = tensor(name);
  if (view.dtype == SafetensorsDtype::kF8E4M3)
    return kernels::dequantize_fp8(detect_isa(), view.shape, view.data,
                                   tensor(concat(name, kScaleSuffix)).data, begin, end, dtype, out);
  const kernels::StoredFloat format = *stored_float(view.dtype);
  kernels::decode_floats(detect_isa(), format,
                         view.data.data() + begin * kernels::stored_size(format), end - begin, 1,
                         dtype, out);
}

void CheckpointReader::read(ExecContext& ctx, std::string_view name, Tensor& out) const {
  const std::string wrong = problem(name, out.shape());
  if (!wrong.empty()) throw IoError(wrong);
  float* values = out.data<float>();
  kernels::parallel_rows(ctx, out.numel(), kChunk, [&](int64_t begin, int64_t end) {
    read(name, begin, end, DType::kF32, values + begin);
  });
  release(name);
}

void CheckpointReader::release(std::string_view name) const {
  const Entry& entry = tensors_.find(name)->second;
  entry.file->release(*entry.view);
}

}  // namespace moerl::policy
