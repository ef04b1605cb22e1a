#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// Countdown: combine the given numbers, each exactly as often as it is given, with + - * / and
/// parentheses so that the value is the target.
///
/// The answer is the last `<answer>...</answer>` of the graded text (see graded_text). It is parsed
/// by parse_arithmetic, the value is compared as an exact rational. A trailing "= n" (option
/// allow_equals) is no use of a number and must state the target.
///
/// The numbers (`numbers` or `nums`, integers >= 0) and the `target` (integer) are taken from the
/// ground truth, {"numbers": [..], "target": n}; what it lacks is taken from extra_info. A ground
/// truth that is a single integer is the target. Anything else is kGoldError.
///
/// Options: allow_equals (true), format_weight (0.1), and those of AnswerScoring. With the rule
/// "answer" the part format is 1 for every well formed expression, right or wrong.
class CountdownVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "countdown"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override;
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
