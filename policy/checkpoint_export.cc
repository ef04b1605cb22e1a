#include "policy/checkpoint_export.h"

#include <memory>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "kernels/norm/elementwise.h"
#include "kernels/quant/fp8_block.h"
#include "policy/checkpoint_reader.h"
#include "policy/families/family.h"
#include "policy/safetensors_writer.h"
#include "policy/weights_io.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using policy::CheckpointReader;
using policy::SafetensorsDtype;
using policy::SafetensorsWriter;
using policy::TensorView;

/// Files beside the weights that belong to a model.
constexpr const char* kSideFiles[] = {"tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "vocab.json",
                                      "merges.txt",
                                      "tokenizer.model",
                                      "chat_template.jinja",
                                      "chat_template.json",
                                      "generation_config.json"};

SafetensorsDtype stored_type(const std::string& name, size_t rank, ExportDtype dtype) {
  if (dtype == ExportDtype::kF32 || name.ends_with("e_score_correction_bias"))
    return SafetensorsDtype::kF32;
  if (dtype == ExportDtype::kFp8 && is_fp8_weight(name, rank)) return SafetensorsDtype::kF8E4M3;
  return SafetensorsDtype::kBF16;
}

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.raw()), static_cast<size_t>(tensor.bytes())};
}

/// The tensor that is being written, in its new type. The writer asks in name order, so a weight
/// and its scales come one after the other and are made once.
class Converter {
 public:
  Converter(ExecContext& ctx, const CheckpointReader& reader) : ctx_(ctx), reader_(reader) {}

  std::span<const std::byte> stored(const std::string& name) {
    forget();
    stored_ = name;
    return reader_.tensor(name).data;
  }
  std::span<const std::byte> f32(const std::string& name) {
    forget();
    value_ = read(name);
    return bytes_of(value_);
  }
  std::span<const std::byte> bf16(const std::string& name) {
    forget();
    const Tensor wide = read(name);
    value_ = ctx_.empty(wide.shape(), DType::kBF16);
    kernels::cast(ctx_, wide, value_);
    return bytes_of(value_);
  }
  std::span<const std::byte> fp8_codes(const std::string& name) {
    quantize(name);
    return codes_;
  }
  std::span<const std::byte> fp8_scales(const std::string& name) {
    quantize(name);
    return std::as_bytes(std::span(scales_));
  }

 private:
  void forget() {
    if (!stored_.empty()) reader_.release(stored_);
    stored_.clear();
    quantized_.clear();
    value_ = Tensor();
    codes_.clear();
    scales_.clear();
    Tensor::release_cache();
  }
  Tensor read(const std::string& name) {
    Tensor value = ctx_.empty(reader_.tensor(name).shape, DType::kF32);
    reader_.read(ctx_, name, value);
    return value;
  }
  void quantize(const std::string& name) {
    if (quantized_ == name) return;
    forget();
    const Tensor value = read(name);
    codes_.resize(static_cast<size_t>(value.numel()));
    scales_.resize(static_cast<size_t>(kernels::fp8_scale_shape(value.shape()).numel()));
    try {
      kernels::quantize_fp8(ctx_, value, codes_, scales_);
    } catch (const std::invalid_argument& error) {
      throw IoError(concat("tensor '", name, "' cannot be stored as FP8: ", error.what()));
    }
    quantized_ = name;
  }

  ExecContext& ctx_;
  const CheckpointReader& reader_;
  std::string stored_;  // name of the tensor whose own bytes are being written
  Tensor value_;
  std::string quantized_;  // name of the weight that codes_ and scales_ are of
  std::vector<std::byte> codes_;
  std::vector<float> scales_;
};

void add_tensor(SafetensorsWriter& writer, Converter& converter, const CheckpointReader& reader,
                const std::string& name, ExportDtype dtype) {
  const TensorView& view = reader.tensor(name);
  const SafetensorsDtype type = stored_type(name, view.shape.rank(), dtype);
  const std::string scale_name = name + "_scale_inv";
  const bool same = view.dtype == type;
  switch (type) {
    case SafetensorsDtype::kF8E4M3:
      writer.add(name, type, view.shape, [&converter, name, same] {
        return same ? converter.stored(name) : converter.fp8_codes(name);
      });
      writer.add(scale_name, SafetensorsDtype::kF32, kernels::fp8_scale_shape(view.shape),
                 [&converter, name, scale_name, same] {
                   return same ? converter.stored(scale_name) : converter.fp8_scales(name);
                 });
      return;
    case SafetensorsDtype::kF32:
      return writer.add(name, type, view.shape, [&converter, name, same] {
        return same ? converter.stored(name) : converter.f32(name);
      });
    default:
      return writer.add(name, type, view.shape, [&converter, name, same] {
        return same ? converter.stored(name) : converter.bf16(name);
      });
  }
}

/// The modules with a matrix that an FP8 checkpoint keeps as BF16: routers, head, eh_proj.
std::vector<std::string> kept_modules(const CheckpointReader& reader) {
  constexpr std::string_view kWeight = ".weight";
  std::vector<std::string> modules;
  for (const std::string& name : reader.names())
    if (reader.tensor(name).shape.rank() == 2 && !is_fp8_weight(name, 2) &&
        name.ends_with(kWeight) && !name.ends_with("embed_tokens.weight"))
      modules.push_back(name.substr(0, name.size() - kWeight.size()));
  return modules;
}

/// @throws IoError listing every tensor that cannot be read.
void check_readable(const CheckpointReader& reader, const fs::path& source) {
  std::string problems;
  for (const std::string& name : reader.names())
    if (const std::string wrong = reader.problem(name, reader.tensor(name).shape); !wrong.empty())
      problems += "\n  " + wrong;
  if (!problems.empty()) throw IoError(concat(source.string(), ": cannot be exported:", problems));
}

/// The text of a token id in tokenizer.json; empty if it has none.
std::string token_text(const Json& tokenizer, int64_t id) {
  for (const Json& token : tokenizer.value("added_tokens", Json::array()))
    if (token.value("id", int64_t{-1}) == id) return token.value("content", "");
  if (tokenizer.contains("model") && tokenizer["model"].contains("vocab"))
    for (const auto& [text, value] : tokenizer["model"]["vocab"].items())
      if (value == id) return text;
  return "";
}

/// What transformers needs to load a tokenizer.json.
std::string made_tokenizer_config(const std::string& tokenizer_json, const ModelConfig& config) {
  const Json tokenizer = parse_json<Json>(tokenizer_json);
  Json made = {{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"clean_up_tokenization_spaces", false},
               {"model_max_length", config.max_position_embeddings}};
  if (config.bos_token_id) made["bos_token"] = token_text(tokenizer, *config.bos_token_id);
  if (config.eos_token_id)
    made["eos_token"] = made["pad_token"] = token_text(tokenizer, *config.eos_token_id);
  return made.dump(2) + "\n";
}

std::string made_generation_config(const std::string& config_text) {
  const Json config = parse_json<Json>(config_text);
  Json made = {{"_from_model_config", true}};
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    if (config.contains(key) && !config[key].is_null()) made[key] = config[key];
  return made.dump(2) + "\n";
}

void write_side_files(const std::vector<fs::path>& sources, const fs::path& target,
                      const std::string& config_text, const ModelConfig& config) {
  for (const char* name : kSideFiles)
    for (const fs::path& folder : sources)
      if (fs::exists(folder / name)) {
        write_file_atomic(target / name, read_file(folder / name));
        break;
      }
  if (fs::exists(target / "tokenizer.json") && !fs::exists(target / "tokenizer_config.json"))
    write_file_atomic(target / "tokenizer_config.json",
                      made_tokenizer_config(read_file(target / "tokenizer.json"), config));
  if (!fs::exists(target / "generation_config.json"))
    write_file_atomic(target / "generation_config.json", made_generation_config(config_text));
}

}  // namespace

ExportDtype parse_export_dtype(const std::string& name) {
  check(name == "f32" || name == "bf16" || name == "fp8", "dtype is '", name,
        "', expected f32, bf16 or fp8");
  return name == "f32"    ? ExportDtype::kF32
         : name == "bf16" ? ExportDtype::kBF16
                          : ExportDtype::kFp8;
}

bool is_fp8_weight(const std::string& name, size_t rank) {
  return rank == 2 && !name.ends_with(".eh_proj.weight") &&
         (name.ends_with("_proj.weight") || name.ends_with(".kv_a_proj_with_mqa.weight"));
}

std::string exported_config(const std::string& source, ExportDtype dtype,
                            const std::vector<std::string>& kept_modules) {
  Json config = parse_json<Json>(with_left_out_keys(source));
  // "dtype" is the newer spelling of the same.
  const char* key = config.contains("dtype") ? "dtype" : "torch_dtype";
  config[key] = dtype == ExportDtype::kF32 ? "float32" : "bfloat16";
  config.erase("auto_map");
  config.erase("quantization_config");
  if (dtype == ExportDtype::kFp8) {
    config["quantization_config"] = {{"activation_scheme", "dynamic"},
                                     {"fmt", "e4m3"},
                                     {"quant_method", "fp8"},
                                     {"weight_block_size", {128, 128}}};
    if (!kept_modules.empty())
      config["quantization_config"]["modules_to_not_convert"] = kept_modules;
  }
  return config.dump(2) + "\n";
}

void export_checkpoint(ExecContext& ctx, const fs::path& source, const fs::path& target,
                       const ExportOptions& options) {
  if (fs::exists(target))
    throw IoError(concat(target.string(), " exists already; choose another directory"));
  const ModelConfig config = read_model_config(source);
  const std::string config_text = read_file(source / "config.json");
  const CheckpointReader reader(source);
  check_readable(reader, source);
  check_weights(config, source);

  SafetensorsWriter writer;
  Converter converter(ctx, reader);
  for (const std::string& name : reader.names())
    add_tensor(writer, converter, reader, name, options.dtype);

  fs::path aside = target;
  if (!aside.has_filename()) aside = aside.parent_path();
  aside += ".tmp";
  std::error_code error;
  fs::remove_all(aside, error);
  fs::create_directories(aside, error);
  if (error) throw IoError(concat("cannot create ", aside.string(), ": ", error.message()));
  try {
    writer.write_sharded(aside, options.max_shard_bytes);
    write_file_atomic(aside / "config.json",
                      exported_config(config_text, options.dtype, kept_modules(reader)));
    std::vector<fs::path> folders = {source};
    folders.insert(folders.end(), options.side_sources.begin(), options.side_sources.end());
    write_side_files(folders, aside, config_text, config);
    rename_directory_atomic(aside, target);
  } catch (...) {
    fs::remove_all(aside, error);
    throw;
  }
}

}  // namespace moerl
