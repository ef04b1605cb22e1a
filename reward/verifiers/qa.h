#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// Short answers of question answering, after SQuAD's normalisation (lower case, without
/// punctuation and the words a, an, the; single spaces).
///
/// em is 1 if the answer equals a ground truth, else 0. f1 is the harmonic mean of precision and
/// recall of the answer's words, as a multiset, against the best ground truth. The ground truth is
/// a text or a JSON list of texts.
///
/// Option extraction: auto (default; the last `<answer>` pair of the graded text, else its last
/// \boxed{}, else all of it), answer_tag, boxed, text. Option metric: em (default), f1, em_or_f1
/// (em, else f1 if it is at least f1_threshold, 0.3). Option prefix_open_think (false).
/// Parts em and f1; the status is kCorrect if em is 1.
class QaVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "qa"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"em", "f1"}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
