#include "policy/grpo/group_advantage.h"

#include <cmath>

#include "common/check.h"

namespace moerl {
namespace {

constexpr double kStdEps = 1e-6;  // verl's

}  // namespace

bool has_zero_variance(std::span<const double> rewards) {
  double first = std::nan("");
  for (double r : rewards) {
    if (std::isnan(r)) continue;
    if (std::isnan(first)) first = r;
    if (r != first) return false;
  }
  return true;
}

std::vector<float> group_advantages(std::span<const double> rewards, const std::string& estimator,
                                    bool by_std) {
  check(estimator == "grpo" || estimator == "rloo", "adv_estimator is '", estimator,
        "', expected grpo or rloo");
  std::vector<float> advantages(rewards.size(), 0.0f);
  if (has_zero_variance(rewards)) return advantages;
  double sum = 0, n = 0;
  for (double r : rewards) {
    if (std::isnan(r)) continue;
    sum += r;
    n += 1;
  }
  const double mean = sum / n;
  double squares = 0;
  for (double r : rewards) squares += std::isnan(r) ? 0 : (r - mean) * (r - mean);
  double scale = 1;
  if (estimator == "rloo") {
    scale = n / (n - 1);
  } else if (by_std) {
    scale = 1 / (std::sqrt(squares / (n - 1)) + kStdEps);
  }
  for (size_t i = 0; i < rewards.size(); ++i)
    if (!std::isnan(rewards[i])) advantages[i] = static_cast<float>((rewards[i] - mean) * scale);
  return advantages;
}

}  // namespace moerl
