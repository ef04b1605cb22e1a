#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// Multiple choice: the letter that the response gives is the ground truth's.
///
/// Option extraction (see Extraction) says where the answer stands; the default here is marker, the
/// usual prompt being "The last line ... 'Answer: $LETTER'". There the letter may stand in
/// brackets, bold, dollar signs or \text{}, and its text may follow: "(B)", "**B**", "B) 42", "B
/// because ...". Letters are capital: an answer "A line" has none. Option num_choices (4, from 2 to
/// 26): letters beyond are no choice (kUnparsable). format_weight (0) and the options of
/// AnswerScoring.
///
/// The ground truth is a letter, "(B)" or "B) text"; or several letters ("AC", "A, C"), which the
/// answer must then all give, in any order; or the index of the choice from 0 if the option
/// gold_is_index (false) is set. Anything else is kGoldError.
class MultipleChoiceVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "multiple_choice"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override;
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
