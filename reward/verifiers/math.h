#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// Mathematics: the answer of the response is equal to the ground truth, as reward/math decides:
/// exactly where that is possible, without ever evaluating text of a model as code.
///
/// Option extraction says where the answer stands (see Extraction): box_or_marker (default), box,
/// marker, answer_tag, hashes, last_number, any, none. Only the graded text counts (see
/// graded_text). A ground truth with boxes is what its last box holds.
///
/// Leniencies (see math::MathOptions): decimal_rounding=relative|off|digits, optional_percent,
/// optional_units, unordered_lists, optional_brackets, optional_name, sets_as_relations (all true),
/// optional_base, decimal_comma (false). format_weight (0) and the options of AnswerScoring.
///
/// A ground truth that is no answer is kGoldError. An answer that cannot be read is kUnparsable,
/// one beyond the limits of reward/math/limits.h kLimit: both count as wrong.
class MathVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "math"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override;
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
