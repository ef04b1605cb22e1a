#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// The response has the shape that the option `rule` names: think_answer_strict (default),
/// think_answer, think_only, think_then_text or think_graded (see FormatRule). Score and the part
/// `format` are full_reward (1), or 0; think_graded gives partial_reward (0.2) for a response that
/// has at least a think tag. The ground truth is not read. Option prefix_open_think (false): the
/// prompt ends with `<think>`.
class FormatVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "format"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override;
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

/// The response has the shape think_answer_strict and the answer holds a closed ``` block that is
/// marked as the option `language` (python; any name, in any case): 1, else 0 (open-r1's code
/// format reward). Option prefix_open_think (false).
class CodeFormatVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "code_format"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"code_format"}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
