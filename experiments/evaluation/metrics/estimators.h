#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace moerl::eval {

/// Probability that at least one of k samples, drawn without replacement from the n of a problem of
/// which c are correct, is correct: 1 - C(n-c, k) / C(n, k), as the product
///
///   1 - prod_{j = n-c+1 .. n} (1 - k / j)
///
/// that neither overflows nor cancels. Source: Chen et al. 2021 (arXiv:2107.03374), section 2.1.
/// @return empty if n < k: it cannot be estimated from so few samples.
/// @throws std::invalid_argument unless 0 <= c <= n and k >= 1.
std::optional<double> pass_at_k(int64_t n, int64_t c, int64_t k);

/// Probability that all of k samples drawn so are correct ("pass^k"): C(c, k) / C(n, k).
/// Source: Yao et al. 2024 (arXiv:2406.12045), section 3. Empty and errors as above.
std::optional<double> all_at_k(int64_t n, int64_t c, int64_t k);

/// The spread of pass@1[avg-of-k], where run j is sample j of every problem. Standard deviations
/// have k - 1 in the denominator and are 0 for k = 1.
struct RunSpread {
  double mean = 0;             ///< over problems of the mean of the first k samples
  double std_across_runs = 0;  ///< of the k runs' means over problems
  double std_err = 0;          ///< std_across_runs / sqrt(k)
  double mean_sample_std = 0;  ///< mean over problems of the deviation among their k samples
};

/// @param scores  [problems][samples], usually 0 or 1.
/// @throws std::invalid_argument if there is no problem or one has fewer than k samples.
RunSpread run_spread(const std::vector<std::vector<double>>& scores, int64_t k);

/// @throws std::invalid_argument if there is no value.
double mean(std::span<const double> values);

/// The q-quantile, q in [0, 1], interpolated linearly between order statistics (type 7 of Hyndman
/// and Fan 1996, what numpy does). @throws std::invalid_argument if there is no value.
double quantile(std::vector<double> values, double q);

}  // namespace moerl::eval
