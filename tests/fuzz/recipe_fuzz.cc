// A recipe: what is accepted survives being written and read.
#include <cstdlib>

#include "common/error.h"
#include "experiments/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moerl;
  try {
    Recipe recipe, again;
    ConfigSource("input", {reinterpret_cast<const char*>(data), size}).read(recipe);
    const std::string written = recipe.to_yaml();
    ConfigSource("written", written).read(again);
    if (again.to_yaml() != written) std::abort();
  } catch (const ConfigError&) {
  }
  return 0;
}
