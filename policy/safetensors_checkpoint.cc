#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "common/check.h"
#include "policy/safetensors.h"

namespace moerl::policy {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kBlock = 128;
constexpr std::string_view kScaleSuffix = "_scale_inv";

int64_t num_blocks(int64_t size) { return (size + kBlock - 1) / kBlock; }

/// Tensor name to shard file name.
std::map<std::string, std::string> parse_weight_map(const fs::path& index) {
  Json root;
  try {
    root = Json::parse(read_file(index));
  } catch (const Json::exception& error) {
    throw IoError(concat(index.string(), ": not JSON: ", error.what()));
  }
  const Json map = root.is_object() ? root.value("weight_map", Json()) : Json();
  if (!map.is_object())
    throw IoError(concat(index.string(), ": weight_map is ", map.type_name(),
                         ", expected an object of tensor name to file name"));
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : map.items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (shard.empty() || fs::path(shard).filename() != fs::path(shard) || shard == "..")
      throw IoError(concat(index.string(), ": weight_map['", name, "'] is ", file.dump(),
                           ", expected the name of a file beside it"));
    files[name] = shard;
  }
  return files;
}

}  // namespace

CheckpointReader::CheckpointReader(const fs::path& directory) : directory_(directory) {
  const fs::path single = directory / "model.safetensors";
  const fs::path index = directory / "model.safetensors.index.json";
  if (fs::exists(single)) {
    add_file(single);
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

void CheckpointReader::add_file(const fs::path& path) {
  files_.push_back(std::make_unique<SafetensorsFile>(path));
}

void CheckpointReader::read_index(const fs::path& index) {
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, shard] : parse_weight_map(index)) {
    if (!shards.contains(shard)) {
      add_file(directory_ / shard);
      shards[shard] = files_.back().get();
    }
    const SafetensorsFile* file = shards[shard];
    if (!file->contains(name))
      throw IoError(concat(file->path().string(), ": there is no tensor '", name, "', which ",
                           index.string(), " expects there"));
    tensors_[name] = {file, &file->tensor(name)};
  }
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

void CheckpointReader::read_f32(std::string_view name, float* out, const Shape& expected) const {
  const TensorView& view = tensor(name);
  if (view.shape != expected)
    throw IoError(concat(where(name), " has shape ", view.shape, ", expected ", expected));
  try {
    convert_to_f32(view, out);
  } catch (const IoError& error) {
    throw IoError(concat(where(name), ": ", error.what()));
  }
  if (view.dtype != SafetensorsDtype::kF8E4M3) return;

  const std::string scale_name = concat(name, kScaleSuffix);
  if (!contains(scale_name))
    throw IoError(concat(where(name), " is F8_E4M3 but there is no '", scale_name, "'"));
  if (view.shape.rank() != 2)
    throw IoError(concat(where(name), " is F8_E4M3 of shape ", view.shape, ", expected a matrix"));
  const int64_t rows = view.shape[0], columns = view.shape[1];
  const TensorView& scale = tensor(scale_name);
  const Shape scale_shape{num_blocks(rows), num_blocks(columns)};
  if (scale.dtype != SafetensorsDtype::kF32 || scale.shape != scale_shape)
    throw IoError(concat(where(scale_name), " is ", dtype_name(scale.dtype), " ", scale.shape,
                         ", expected F32 ", scale_shape, " for a weight of ", view.shape));
  std::vector<float> scales(static_cast<size_t>(scale_shape.numel()));
  convert_to_f32(scale, scales.data());
  for (int64_t r = 0; r < rows; ++r) {
    const float* row_scales = scales.data() + r / kBlock * scale_shape[1];
    for (int64_t c = 0; c < columns; ++c) out[r * columns + c] *= row_scales[c / kBlock];
  }
}

}  // namespace moerl::policy
