#pragma once
#include "reward/verifier.h"

namespace moerl::reward {

/// Kimi k1.5's length reward (arXiv:2501.12599, section 2.3.3), over the completions of a group:
///
///   lambda = 0.5 - (L - L_min) / (L_max - L_min)
///   right: lambda,   wrong: min(0, lambda),   all 0 if L_max = L_min
///
/// Reads is_correct and group. Option unit (tokens; characters).
class LenVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "len"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"len"}; }
  SampleNeeds needs() const override { return {.correctness = true, .group = true}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

/// The cosine reward of "Demystifying Long Chain-of-Thought Reasoning" (arXiv:2502.03373), so that
/// right answers are better short and wrong ones better long:
///
///   p = min(L / max_len, 1),   r = at_end + (at_start - at_end) (1 + cos(pi p)) / 2
///
/// right: at_start = max_value_correct (1), at_end = min_value_correct (0.5);
/// wrong: at_start = min_value_wrong (-1), at_end = max_value_wrong (-0.5). max_len is 1000.
/// Reads is_correct. Option unit (tokens; characters).
class CosineVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "cosine"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"cosine"}; }
  SampleNeeds needs() const override { return {.correctness = true}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

/// DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13), with L_max = max_len (20480) and
/// L_cache = cache_len (4096):
///
///   0 if L <= L_max - L_cache,   (L_max - L_cache - L) / L_cache in between,   -1 if L > L_max
///
/// times penalty_factor (1). Option unit (tokens; characters).
class SoftOverlongVerifier final : public Verifier {
 public:
  std::string_view name() const override { return "soft_overlong"; }
  std::string_view description() const override;
  std::vector<std::string> part_names() const override { return {"soft_overlong"}; }
  void check_options(const Options& options) const override;
  Verdict score(const Sample& sample, const Options& options,
                const WorkBudget& budget) const override;
};

}  // namespace moerl::reward
