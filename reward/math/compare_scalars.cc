#include "reward/math/compare_scalars.h"

#include <algorithm>
#include <optional>

#include "reward/math/evaluate_exact.h"
#include "reward/math/numerals.h"
#include "reward/math/rational_function.h"

namespace moerl::reward::math {
namespace {

constexpr slong kProbePrecision = 128;
constexpr int kMaxPoints = 24, kWantedPoints = 8, kNeededPoints = 4;
constexpr int kPositivePoints = 12;

/// A decimal point was written, alone or with a sign.
const Node* as_decimal(const Tree& tree, NodeId id) {
  const Node* node = &tree[id];
  if (node->kind == Kind::kQuantity && node->text != "%") node = &tree[node->kids[0]];
  return node->kind == Kind::kNumber && node->decimals >= 0 ? node : nullptr;
}

/// True if the number is a fraction that decimals can write.
bool has_finite_decimal(const Rational& value) {
  Rational rest(1);
  fmpz_set(rest.numerator(), value.denominator());
  for (const ulong prime : {2ul, 5ul}) {
    Rational p(static_cast<long>(prime));
    fmpz_remove(rest.numerator(), rest.numerator(), p.numerator());
  }
  return fmpz_is_one(rest.numerator());
}

/// The decimal has at least `num_digits` significant digits, and is the exact value rounded to the
/// last of them.
bool is_rounded(const Tree& tree, const Node& decimal, NodeId decimal_id, NodeId exact,
                long num_digits, StepBudget& budget) {
  Rational scaled = decimal.value;
  Rational ten(10), unit;
  fmpq_pow_si(unit.get(), ten.get(), decimal.decimals);
  fmpq_mul(scaled.get(), scaled.get(), unit.get());
  const Rational least = power_of_ten(num_digits - 1);
  if (fmpz_cmpabs(scaled.numerator(), least.numerator()) < 0) return false;
  // |decimal - exact| <= unit / 2, as a relative tolerance on the larger of both.
  const Ball x = evaluate_ball(tree, exact, {}, 256, budget);
  if (!x.is_finite() || !x.is_real()) return false;
  Ball y = evaluate_ball(tree, decimal_id, {}, 256, budget), half;
  acb_sub(y.get(), y.get(), x.get(), 256);
  arb_abs(y.real(), y.real());
  fmpq_inv(unit.get(), unit.get());
  arb_set_fmpq(half.real(), unit.get(), 256);
  arb_mul_2exp_si(half.real(), half.real(), -1);
  return arb_le(y.real(), half.real());
}

/// One side is a decimal that stands for the other.
bool is_approximation(const Tree& tree, NodeId a, NodeId b, const std::optional<Rational>& x,
                      const std::optional<Rational>& y, DecimalRounding rounding,
                      StepBudget& budget) {
  if (rounding == DecimalRounding::kOff) return false;
  const Node *left = as_decimal(tree, a), *right = as_decimal(tree, b);
  if (!left == !right) return false;
  const auto& exact = left ? y : x;
  if (exact && exact->is_integer()) return false;
  const auto is_rounding = [&](long num_digits) {
    return is_rounded(tree, left ? *left : *right, left ? a : b, left ? b : a, num_digits, budget);
  };
  if (!exact || !has_finite_decimal(*exact))
    if (is_close(tree, a, b, Rational(1, 1'000'000), budget) ||
        ((left ? left : right)->decimals >= 6 && is_rounding(6)))
      return true;
  return rounding == DecimalRounding::kDigits && is_rounding(3);
}

/// splitmix64
uint64_t next_random(uint64_t& state) {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

Environment draw_point(const std::vector<std::string>& symbols, int index, uint64_t& state) {
  Environment point;
  for (const std::string& symbol : symbols) {
    const auto below = 89 + 2 * (next_random(state) % 64);
    auto above = static_cast<long>(1 + next_random(state) % (5 * below));
    // From kPositivePoints on all signs are negative, or the first one and some others.
    const bool is_random = next_random(state) % 2 == 0;
    const bool is_negative =
        index >= kPositivePoints && (index % 2 == 1 || is_random || point.empty());
    point.emplace_back(symbol, Rational(is_negative ? -above : above, below));
  }
  return point;
}

/// Values of a and b at random points, as they come.
template <class Visit>
void probe(const Tree& tree, NodeId a, NodeId b, const std::vector<std::string>& symbols,
           uint64_t seed, StepBudget& budget, Visit&& visit) {
  for (int i = 0; i < kMaxPoints; ++i) {
    const Environment point = draw_point(symbols, i, seed);
    Ball x = evaluate_ball(tree, a, point, kProbePrecision, budget);
    Ball y = evaluate_ball(tree, b, point, kProbePrecision, budget);
    if (x.is_finite() && y.is_finite() && !visit(i, x, y)) return;
  }
}

/// The ball holds zero within 2^-60 of the scale.
bool is_zero_like(const Ball& difference, const Ball& scale) {
  mag_t radius, size, one;
  mag_init(radius);
  mag_init(size);
  mag_init(one);
  acb_get_mag(radius, difference.get());
  acb_get_mag(size, scale.get());
  mag_one(one);
  mag_max(size, size, one);
  mag_mul_2exp_si(size, size, -60);
  const bool is_small = mag_cmp(radius, size) <= 0;
  mag_clear(radius);
  mag_clear(size);
  mag_clear(one);
  return is_small;
}

Sameness probe_equality(const Tree& tree, NodeId a, NodeId b,
                        const std::vector<std::string>& symbols, uint64_t seed,
                        StepBudget& budget) {
  const bool is_complex =
      contains(tree, a, Kind::kImaginary, budget) || contains(tree, b, Kind::kImaginary, budget);
  int num_equal = 0, num_signed = 0;
  bool is_different = false;
  probe(tree, a, b, symbols, seed, budget, [&](int index, const Ball& x, const Ball& y) {
    if (!is_complex && (!x.is_real() || !y.is_real())) return true;
    Ball difference;
    acb_sub(difference.get(), x.get(), y.get(), kProbePrecision);
    if (!acb_contains_zero(difference.get())) {
      is_different = true;
      return false;
    }
    if (is_zero_like(difference, x)) {
      ++num_equal;
      num_signed += index >= kPositivePoints;
    }
    return num_equal < 2 * kWantedPoints || num_signed < kNeededPoints;
  });
  if (is_different) return Sameness::kDifferent;
  return num_equal >= kNeededPoints ? Sameness::kSame : Sameness::kUnknown;
}

}  // namespace

int infinity_sign(const Tree& tree, NodeId id) {
  const Node& node = tree[id];
  if (node.kind == Kind::kInfinity) return 1;
  if (node.kind != Kind::kProduct || node.kids.size() != 2) return 0;
  const Node &factor = tree[node.kids[0]], &other = tree[node.kids[1]];
  if (factor.kind != Kind::kNumber || other.kind != Kind::kInfinity) return 0;
  return factor.value.sign();
}

Sameness compare_scalars(const Tree& tree, NodeId a, NodeId b, DecimalRounding rounding,
                         uint64_t seed, StepBudget& budget) {
  const int infinite_a = infinity_sign(tree, a), infinite_b = infinity_sign(tree, b);
  if (infinite_a != 0 || infinite_b != 0)
    return infinite_a == infinite_b ? Sameness::kSame : Sameness::kDifferent;
  const auto x = evaluate_exact(tree, a, budget), y = evaluate_exact(tree, b, budget);
  if (x && y) {
    if (*x == *y) return Sameness::kSame;
    return is_approximation(tree, a, b, x, y, rounding, budget) ? Sameness::kSame
                                                                : Sameness::kDifferent;
  }
  if (same_structure(tree, a, b, budget)) return Sameness::kSame;
  std::vector<std::string> symbols = symbols_of(tree, a, budget);
  const std::vector<std::string> others = symbols_of(tree, b, budget);
  symbols.insert(symbols.end(), others.begin(), others.end());
  std::sort(symbols.begin(), symbols.end());
  symbols.erase(std::unique(symbols.begin(), symbols.end()), symbols.end());
  if (symbols.empty()) {
    const Sameness sameness = compare_constants(tree, a, b, budget);
    if (sameness != Sameness::kSame && is_approximation(tree, a, b, x, y, rounding, budget))
      return Sameness::kSame;
    return sameness;
  }
  const auto exact = compare_rational_functions(tree, a, b, symbols, budget);
  if (exact.same != Sameness::kUnknown) return exact.same;
  return probe_equality(tree, a, b, symbols, seed, budget);
}

int proportional_sign(const Tree& tree, NodeId a, NodeId b, bool zeros_only, uint64_t seed,
                      StepBudget& budget) {
  std::vector<std::string> symbols = symbols_of(tree, a, budget);
  if (symbols != symbols_of(tree, b, budget)) return 0;
  const auto exact = compare_rational_functions(tree, a, b, symbols, budget);
  if (exact.same != Sameness::kUnknown) {
    if (zeros_only && exact.same_zeros) return 1;
    return exact.proportional_sign;
  }
  // The quotient is the same at all points.
  Ball first;
  int num_equal = 0, sign = 0;
  probe(tree, a, b, symbols, seed, budget, [&](int, const Ball& x, const Ball& y) {
    if (!x.is_real() || !y.is_real() || acb_contains_zero(y.get())) return true;
    Ball quotient, difference;
    acb_div(quotient.get(), x.get(), y.get(), kProbePrecision);
    if (num_equal == 0) {
      sign = arb_is_positive(quotient.real()) ? 1 : arb_is_negative(quotient.real()) ? -1 : 0;
      acb_set(first.get(), quotient.get());
    }
    acb_sub(difference.get(), quotient.get(), first.get(), kProbePrecision);
    if (!is_zero_like(difference, first)) sign = 0;
    return sign != 0 && ++num_equal < kWantedPoints;
  });
  return num_equal >= kNeededPoints ? sign : 0;
}

}  // namespace moerl::reward::math
