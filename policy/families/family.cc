#include "policy/families/family.h"

#include "common/check.h"
#include "common/error.h"

namespace moerl {
namespace {

const std::vector<ModelFamily>& families() {
  static const std::vector<ModelFamily> all = [] {
    ModelFamily kimi_k2 = deepseek_v3_family();
    kimi_k2.model_type = "kimi_k2";
    return std::vector<ModelFamily>{deepseek_v3_family(), kimi_k2,        deepseek_v2_family(),
                                    llama_family(),       qwen2_family(), qwen3_family(),
                                    qwen3_moe_family()};
  }();
  return all;
}

}  // namespace

const ModelFamily& model_family(const std::string& model_type) {
  std::string known;
  for (const ModelFamily& family : families()) {
    if (family.model_type == model_type) return family;
    known += (known.empty() ? "" : ", ") + family.model_type;
  }
  throw ConfigError(concat("model_type is '", model_type, "', expected one of ", known));
}

std::vector<std::string> model_family_names() {
  std::vector<std::string> names;
  for (const ModelFamily& family : families()) names.push_back(family.model_type);
  return names;
}

}  // namespace moerl
