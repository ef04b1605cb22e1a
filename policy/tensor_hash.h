#pragma once
#include <cstdint>
#include <functional>
#include <string_view>

#include "kernels/tensor.h"

namespace moerl {

/// Hash of a tensor's name, shape and bytes; the same on every machine. It guards against mistakes
/// and damage, not against malice.
/// @param tensor  fp32.
uint64_t tensor_hash(std::string_view name, const Tensor& tensor);
/// The same of a tensor that need not be in memory as a whole.
/// @param read  writes elements [begin, end), in row order; called for each once, in order.
uint64_t tensor_hash(std::string_view name, const Shape& shape,
                     const std::function<void(int64_t begin, int64_t end, float* out)>& read);

/// Combines the hashes of all tensors of a model; independent of their order. Starts from 0.
uint64_t combine_weights_hash(uint64_t combined, uint64_t tensor_hash);

}  // namespace moerl
