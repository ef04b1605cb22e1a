// A response with its verdict: extraction, the choice of a candidate, both verifiers.
#include <cstdlib>

#include "reward/verifiers/math.h"
#include "reward/verifiers/multiple_choice.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moerl::reward;
  const Sample sample{std::string(reinterpret_cast<const char*>(data), size), "12", "", "", ""};
  for (const char* extraction : {"any", "box_or_marker", "answer_tag"}) {
    const Options options = {{"extraction", extraction}};
    if (MathVerifier().score(sample, options, {}).status == VerdictStatus::kInternalError)
      std::abort();
    MultipleChoiceVerifier().score({sample.response, "B", "", "", ""}, options, {});
  }
  return 0;
}
