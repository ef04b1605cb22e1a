#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// The answer, normalised, equals the normalised ground truth byte for byte.
///
/// Options, with defaults: extraction = answer_tag (the last `<answer>` pair of the graded text),
/// text (the whole graded text) or answer_tag_or_text; strip (true) drops outer white space;
/// casefold (false) compares in lower case; squeeze_space (false) makes runs of white space one
/// space; drop_punctuation (false) drops ASCII punctuation; drop_articles (false) drops the words
/// a, an, the; format_weight (0) and those of AnswerScoring. An answer without text is kNoAnswer:
/// it never matches. A ground truth without text is kGoldError.
class ExactMatchVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "exact_match"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override;
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
