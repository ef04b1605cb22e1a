#pragma once
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "policy/optim/adamw.h"
#include "policy/safetensors.h"
#include "policy/transformer.h"

namespace moerl::testing {

/// The unclipped gradients of the optimizer's last step, in the order of the parameters that have
/// one: with beta1 = 0 they are the first moments that AdamW saves.
inline std::vector<std::vector<double>> saved_gradient(const AdamW& optimizer,
                                                       const Transformer& model) {
  const std::filesystem::path path = std::filesystem::temp_directory_path() /
                                     concat("moerl_gradient_", ::getpid(), ".safetensors");
  optimizer.save(path);
  std::vector<std::vector<double>> all;
  {
    const policy::SafetensorsFile file(path);
    for (const Parameter* p : model.parameters()) {
      if (p->is_buffer) continue;
      std::vector<float> values(static_cast<size_t>(p->value.numel()));
      policy::convert_to_f32(file.tensor("exp_avg." + p->name), values.data());
      all.emplace_back(values.begin(), values.end());
    }
  }
  std::filesystem::remove(path);
  return all;
}

}  // namespace moerl::testing
