#pragma once
#include <string>
#include <vector>

#include "policy/model_config.h"

namespace moerl {

/// Sizes that are larger than any model's, one message each. Within these limits every count of
/// parameters and bytes stays within 64 bits, whatever a file says.
std::vector<std::string> oversizes(const ModelConfig& config);

}  // namespace moerl
