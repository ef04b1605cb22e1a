#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// Grade-school word problems: the answer is a number, compared as an exact rational.
///
/// Option method: strict (default): the last "#### number" of the graded text; flexible: its last
/// number; answer_tag: its last `<answer>` pair, which must hold a number and nothing else. Numbers
/// are those of scan_number: 1,234 and $18.00 and 3/4 are understood, 18.0 equals 18. The ground
/// truth is a number, or a text with "#### number".
///
/// Further options: tolerance (0): largest absolute difference that is still right, itself an exact
/// decimal; format_weight (0) and those of AnswerScoring.
class Gsm8kVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "gsm8k"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override;
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
