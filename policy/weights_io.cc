#include "policy/weights_io.h"

#include <map>

#include "common/error.h"
#include "common/file.h"
#include "kernels/norm/rms_norm.h"
#include "policy/checkpoint_reader.h"
#include "policy/parallel/collectives.h"
#include "policy/safetensors_writer.h"
#include "policy/tensor_hash.h"

namespace moerl {
namespace {

using policy::CheckpointReader;
using policy::SafetensorsDtype;
using policy::SafetensorsWriter;

constexpr size_t kMaxShown = 4000;  // characters of a list of problems: nobody reads on

std::string layer_prefix(int64_t layer) { return concat("model.layers.", layer, "."); }

/// Tensors of a checkpoint that repeat a parameter: name to the parameter that they repeat.
std::map<std::string, const Parameter*> duplicates(const Transformer& model) {
  const ModelConfig& config = model.config();
  const Parameter *embedding = nullptr, *head = nullptr;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->name == "model.embed_tokens.weight") embedding = parameter;
    if (parameter->name == "lm_head.weight") head = parameter;
  }
  if (config.tie_word_embeddings) head = embedding;
  std::map<std::string, const Parameter*> out;
  if (config.num_nextn_predict_layers > 0) {
    const std::string prefix = layer_prefix(config.num_hidden_layers);
    out[prefix + "embed_tokens.weight"] = embedding;
    out[prefix + "shared_head.head.weight"] = head;
  }
  if (config.tie_word_embeddings) out["lm_head.weight"] = embedding;
  return out;
}

/// What old files hold beside the weights: frequencies that follow from config.json. Other readers
/// pass over them too.
bool is_rotary_table(const std::string& name) { return name.ends_with(".rotary_emb.inv_freq"); }

bool is_left_out_mtp(const ModelConfig& config, const std::string& name) {
  return config.num_nextn_predict_layers == 0 &&
         name.starts_with(layer_prefix(config.num_hidden_layers));
}

void check_inventory(const Transformer& model, const CheckpointReader& reader,
                     const std::filesystem::path& directory) {
  std::map<std::string, const Parameter*> expected, optional = duplicates(model);
  for (const Parameter* parameter : model.parameters()) expected[parameter->name] = parameter;
  const std::string mtp_prefix = layer_prefix(model.config().num_hidden_layers);
  bool has_mtp = false;
  for (const std::string& name : reader.names()) has_mtp = has_mtp || name.starts_with(mtp_prefix);
  std::string problems;
  if (model.config().num_nextn_predict_layers > 0 && !has_mtp)
    problems += "\n  there is no MTP module; set num_nextn_predict_layers to 0 to go without it";
  for (const auto& [name, parameter] : expected)
    if (!reader.contains(name) && (has_mtp || !name.starts_with(mtp_prefix)))
      problems += concat("\n  ", name, " is missing");
  for (const std::string& name : reader.names()) {
    const Parameter* parameter = nullptr;
    if (const auto it = expected.find(name); it != expected.end()) parameter = it->second;
    if (const auto it = optional.find(name); it != optional.end()) parameter = it->second;
    if (parameter == nullptr) {
      if (!is_left_out_mtp(model.config(), name) && !is_rotary_table(name))
        problems += concat("\n  ", name, " does not belong to this model");
    } else if (const std::string wrong = reader.problem(name, parameter->value.shape());
               !wrong.empty()) {
      problems += "\n  " + wrong;
    }
  }
  if (problems.size() > kMaxShown)
    problems = problems.substr(0, problems.rfind('\n', kMaxShown)) + "\n  and more";
  if (!problems.empty())
    throw IoError(concat(directory.string(), ": the tensors do not fit config.json:", problems));
}

class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(const CheckpointReader& reader) : reader_(reader) {}
  void read(const Parameter& parameter, int64_t begin, int64_t end, DType dtype,
            void* out) override {
    reader_.read(parameter.name, begin, end, dtype, out);
  }
  void finished(const Parameter& parameter) override { reader_.release(parameter.name); }

 private:
  const CheckpointReader& reader_;
};

/// Of the parameters that `includes` names.
template <typename Includes>
uint64_t hash_of(const Transformer& model, const Includes& includes) {
  uint64_t combined = 0;
  for (const Parameter* parameter : model.parameters())
    if (includes(*parameter))
      combined = combine_weights_hash(combined, tensor_hash(parameter->name, parameter->value));
  return combined;
}

/// To bf16, nearest even. @param value  on the host, as the result is.
Tensor rounded(ExecContext& ctx, const Tensor& value) {
  Tensor narrow = ctx.empty(value.shape(), DType::kBF16);
  kernels::cast(ctx, value.to(ctx.device()), narrow);
  return narrow.to(Device::kCpu);
}

}  // namespace

ModelConfig read_model_config(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "config.json";
  return ModelConfig::from_json(path.string(), read_file(path));
}

void check_weights(const ModelConfig& config, const std::filesystem::path& directory) {
  const CheckpointReader reader(directory);
  const Transformer model(config, DType::kF32, Masters::kDropped);
  check_inventory(model, reader, directory);
}

void load_weights(ExecContext& ctx, Transformer& model, const std::filesystem::path& directory) {
  const CheckpointReader reader(directory);
  check_inventory(model, reader, directory);
  CheckpointSource source(reader);
  model.load(ctx, source);
}

uint64_t weights_hash(ExecContext& ctx, const Transformer& model,
                      const std::filesystem::path& directory) {
  const CheckpointReader reader(directory);
  check_inventory(model, reader, directory);
  const std::vector<const Parameter*> parameters = model.parameters();
  std::vector<uint64_t> hashes(parameters.size());
  ctx.pool().parallel_for(static_cast<int64_t>(parameters.size()), [&](int64_t i) {
    const Parameter& parameter = *parameters[static_cast<size_t>(i)];
    hashes[static_cast<size_t>(i)] = tensor_hash(
        parameter.name, parameter.value.shape(), [&](int64_t begin, int64_t end, float* out) {
          reader.read(parameter.name, begin, end, DType::kF32, out);
        });
    reader.release(parameter.name);
  });
  uint64_t combined = 0;
  for (uint64_t hash : hashes) combined = combine_weights_hash(combined, hash);
  return combined;
}

std::unique_ptr<Transformer> load_model(ExecContext& ctx, const std::filesystem::path& directory,
                                        Precision precision, Masters masters) {
  auto model =
      std::make_unique<Transformer>(read_model_config(directory), precision, masters, ctx.device());
  load_weights(ctx, *model, directory);
  return model;
}

void save_model(ExecContext& ctx, const Transformer& model, const std::filesystem::path& directory,
                DType dtype, int64_t max_shard_bytes) {
  check(dtype == DType::kF32 || dtype == DType::kBF16, "save_model: dtype is ", dtype_name(dtype),
        ", expected f32 or bf16");
  model.need_masters("save_model");
  std::map<std::string, const Parameter*>
      tensors;  // in the order in which the writer asks for them
  for (const Parameter* parameter : model.parameters()) tensors[parameter->name] = parameter;
  for (const auto& [name, parameter] : duplicates(model))
    if (name != "lm_head.weight") tensors[name] = parameter;
  if (model.experts().comm().rank() != 0) {
    for (const auto& [name, parameter] : tensors) model.experts().on_first_rank(*parameter);
    return;
  }
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw IoError(concat(directory.string(), ": cannot create: ", error.message()));
  SafetensorsWriter writer;
  Tensor value;  // of the tensor that is being written
  for (const auto& [name, parameter] : tensors) {
    const bool wide = dtype == DType::kF32 || parameter->is_buffer;
    writer.add(name, wide ? SafetensorsDtype::kF32 : SafetensorsDtype::kBF16,
               parameter->value.shape(), [&ctx, &model, &value, parameter = parameter, wide] {
                 value = model.experts().on_first_rank(*parameter);
                 if (!wide) value = rounded(ctx, value);
                 return std::span(static_cast<const std::byte*>(value.raw()),
                                  static_cast<size_t>(value.bytes()));
               });
  }
  writer.write_sharded(directory, max_shard_bytes);
  write_file_atomic(directory / "config.json", model.config().to_json(dtype));
}

uint64_t weights_hash(const Transformer& model) {
  model.need_masters("weights_hash");
  return hash_of(model, [](const Parameter&) { return true; });
}

void check_same_weights(const Transformer& model) {
  const ExpertParallel& experts = model.experts();
  const uint64_t of_all =
      hash_of(model, [](const Parameter& p) { return p.holder == Parameter::kEveryRank; });
  const uint64_t of_experts = hash_of(model, [&](const Parameter& p) {
    return p.holder != Parameter::kEveryRank && experts.holds(p);
  });
  const std::vector<std::vector<uint64_t>> hashes =
      all_gather(experts.comm(), std::vector{of_all, of_experts});
  for (size_t r = 0; r < hashes.size(); ++r) {
    const size_t same_experts = r % static_cast<size_t>(experts.size());
    if (hashes[r][0] != hashes[0][0] || hashes[r][1] != hashes[same_experts][1])
      throw ConfigError(concat("rank ", r, " has other weights than rank ",
                               hashes[r][0] != hashes[0][0] ? 0 : same_experts));
  }
}

}  // namespace moerl
