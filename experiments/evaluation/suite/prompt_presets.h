#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace moerl::eval {

/// A way of asking: where in the response the answer must then stand is the verifier's business, so
/// a suite names a preset together with the verifier's options.
struct PromptPreset {
  std::string_view name;
  std::string_view user;  ///< template of the user turn, with {question}
};

std::vector<std::string> prompt_preset_names();

/// @throws std::invalid_argument naming the known presets.
const PromptPreset& prompt_preset(std::string_view name);

}  // namespace moerl::eval
