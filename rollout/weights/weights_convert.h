#pragma once
#include "moerl/v1/weights.pb.h"
#include "policy/transformer.h"

namespace moerl {

/// Bytes of a tensor that travel in one message.
inline constexpr int64_t kWeightsChunkBytes = int64_t{1} << 20;

/// The first message of an update. @param hashes  of model.parameters(), in order.
v1::UpdateWeightsRequest weights_header(const Transformer& model, int64_t policy_version,
                                        const std::vector<uint64_t>& hashes);
/// Bytes [offset, offset + kWeightsChunkBytes) of the parameter's master, or up to its end.
v1::UpdateWeightsRequest weights_chunk(const Parameter& parameter, int64_t offset, uint64_t hash);
/// Hashes of model.parameters(), in order.
std::vector<uint64_t> weights_hashes(const Transformer& model);

}  // namespace moerl
