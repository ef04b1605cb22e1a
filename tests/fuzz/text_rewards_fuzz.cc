// A response and a ground truth, parted by a zero byte, judged by the rewards of shape, words and
// numbers; and read as a program and as its tests.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "reward/verifier_registry.h"
#include "reward/verifiers/code_block.h"
#include "reward/verifiers/code_output.h"
#include "reward/verifiers/code_tests.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moerl::reward;
  static const auto registry = make_verifier_registry();
  const std::string text(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(text.find('\0'), text.size());
  const Sample sample{.response = text.substr(0, end),
                      .ground_truth = text.substr(std::min(end + 1, text.size())),
                      .num_tokens = static_cast<int64_t>(size),
                      .is_correct = size % 2 == 0};
  for (const char* name : {"code_format", "cosine", "countdown", "exact_match", "format", "gsm8k",
                           "language_consistency", "qa", "reasoning_steps", "repetition",
                           "soft_overlong", "tag_count"}) {
    const Verdict verdict = registry->get(name)->score(sample, {}, {});
    if (verdict.status == VerdictStatus::kInternalError || !std::isfinite(verdict.score))
      std::abort();
  }
  last_code_block(sample.response, CodeLanguage::kPython, true);
  same_output(sample.response, sample.ground_truth, size % 2 == 0 ? 0 : 1e-6);
  try {
    parse_code_tests(sample.ground_truth, sample.response);
  } catch (const CodeTestsError&) {
  }
  return 0;
}
