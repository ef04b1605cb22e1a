// config.json: what is accepted has a softmax scale and parameter counts, and survives being
// written and read.
#include <cstdlib>

#include "common/error.h"
#include "policy/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moerl;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const ModelConfig config = ModelConfig::from_json("input", text);
    if (!(config.softmax_scale() > 0) || config.num_active_parameters() > config.num_parameters())
      std::abort();
    const std::string written = config.to_json(DType::kBF16);
    if (ModelConfig::from_json("written", written).to_json(DType::kBF16) != written) std::abort();
  } catch (const ConfigError&) {
  }
  return 0;
}
