// Two answers, one a line: the verdict does not depend on their order.
#include <algorithm>
#include <cstdlib>

#include "reward/math/equivalence.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moerl::reward::math;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t line = std::min(text.find('\n'), text.size());
  const std::string_view a = text.substr(0, line), b = text.substr(std::min(line + 1, text.size()));
  const bool is_equal = compare_answers(a, b).outcome == Outcome::kEqual;
  // A sentence may be no gold and still an answer.
  if (gold_problem(a).empty() && gold_problem(b).empty() &&
      is_equal != (compare_answers(b, a).outcome == Outcome::kEqual))
    std::abort();
  return 0;
}
