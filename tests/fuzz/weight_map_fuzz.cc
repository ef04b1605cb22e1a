// model.safetensors.index.json: every shard that is let through is the name of a file beside the
// index.
#include <cstdlib>

#include "common/error.h"
#include "policy/checkpoint_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moerl;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    for (const auto& [name, shard] : policy::parse_weight_map("input", text))
      if (shard.empty() || shard == ".." || shard.find('/') != std::string::npos) std::abort();
  } catch (const IoError&) {
  }
  return 0;
}
