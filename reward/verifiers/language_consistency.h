#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// DeepSeek-R1's language consistency (arXiv:2501.12948, section 2.3.2): words of the chain of
/// thought in the target language over all of its words. See count_language for what is a word.
///
/// The chain of thought is the one `<think>` block, tags in any case; an open block ends with the
/// response. No block is kNoAnswer, several are kUnparsable, and both score 0.
///
/// Options: target_language (en), an ISO 639-1 code; scope (think; response: all of the text);
/// threshold (0: the score is the share; else 1 if the share is at least the threshold, else 0);
/// prefix_open_think (false): the prompt ends with `<think>`.
class LanguageConsistencyVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "language_consistency"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"language_consistency"}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
