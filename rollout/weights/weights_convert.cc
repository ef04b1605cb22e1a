#include "rollout/weights/weights_convert.h"

#include "policy/tensor_hash.h"
#include "rollout/engine.h"

namespace moerl {

v1::UpdateWeightsRequest weights_header(const Transformer& model, int64_t policy_version,
                                        const std::vector<uint64_t>& hashes) {
  v1::UpdateWeightsRequest message;
  v1::WeightsHeader* header = message.mutable_header();
  header->set_policy_version(policy_version);
  header->set_model_config_json(model.config().to_json(model.dtype()));
  header->set_numeric_family(Engine::numeric_family(model));
  header->set_num_tensors(static_cast<int64_t>(hashes.size()));
  uint64_t combined = 0;
  for (uint64_t hash : hashes) combined = combine_weights_hash(combined, hash);
  header->set_weights_hash(combined);
  return message;
}

v1::UpdateWeightsRequest weights_chunk(const Parameter& parameter, int64_t offset, uint64_t hash) {
  v1::UpdateWeightsRequest message;
  v1::TensorChunk* chunk = message.mutable_chunk();
  chunk->set_name(parameter.name);
  const std::vector<int64_t>& dims = parameter.value.shape().dims();
  chunk->mutable_shape()->Assign(dims.begin(), dims.end());
  chunk->set_offset(offset);
  const int64_t end = std::min(offset + kWeightsChunkBytes, parameter.value.bytes());
  const Tensor values = parameter.value.view({parameter.value.numel()}).rows(offset / 4, end / 4);
  chunk->mutable_data()->resize(static_cast<size_t>(values.bytes()));
  values.copy_to_host(chunk->mutable_data()->data());
  chunk->set_hash(hash);
  return message;
}

std::vector<uint64_t> weights_hashes(const Transformer& model) {
  std::vector<uint64_t> hashes;
  for (const Parameter* parameter : model.parameters())
    hashes.push_back(tensor_hash(parameter->name, parameter->value));
  return hashes;
}

}  // namespace moerl
