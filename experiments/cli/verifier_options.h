#pragma once
#include <string>
#include <vector>

#include "reward/sample.h"

namespace moerl::cli {

/// Options of a verifier from "key=value" each. @throws std::invalid_argument.
reward::Options parse_verifier_options(const std::vector<std::string>& pairs);

}  // namespace moerl::cli
