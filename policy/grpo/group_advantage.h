#pragma once
#include <span>
#include <string>
#include <vector>

namespace moerl {

/// Advantages of one group, all answers to one prompt:
///
///   grpo: A_i = R_i - mean(R), divided by (std(R) + 1e-6) if `by_std` (std with n - 1);
///   rloo: A_i = R_i - mean of the others' R = n / (n - 1) (R_i - mean(R)), never divided.
///
/// Sources: Shao et al. 2024 (arXiv:2402.03300) section 4.1; Liu et al. 2025 (arXiv:2503.20783) for
/// no std; Ahmadian et al. 2024 (arXiv:2402.14740). Equal rewards give exactly 0. A reward that is
/// NaN belongs to an answer that could not be scored: it stays out of the mean and std and gets
/// advantage 0.
std::vector<float> group_advantages(std::span<const double> rewards, const std::string& estimator,
                                    bool by_std);

/// True if every scored reward is the same, so the group teaches nothing.
bool has_zero_variance(std::span<const double> rewards);

}  // namespace moerl
