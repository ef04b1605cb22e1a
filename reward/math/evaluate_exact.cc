#include "reward/math/evaluate_exact.h"

#include <algorithm>

namespace moerl::reward::math {
namespace {

using Value = std::optional<Rational>;

class ExactEvaluator {
 public:
  ExactEvaluator(const Tree& tree, StepBudget& budget, const Environment& environment)
      : tree_(tree), budget_(budget), environment_(environment) {}

  Value evaluate(NodeId id) {
    budget_.spend(1);
    const Node& node = tree_[id];
    switch (node.kind) {
      case Kind::kNumber:
        return node.value;
      case Kind::kSymbol:
        return symbol(node);
      case Kind::kSum:
        return sum(node);
      case Kind::kProduct:
        return product(node);
      case Kind::kPower:
        return power(node);
      case Kind::kRoot:
        return root(node);
      case Kind::kRatio:
        return ratio(node);
      case Kind::kQuantity:
        return quantity(node);
      case Kind::kFunction:
        return function(node);
      default:
        return std::nullopt;
    }
  }

 private:
  Value symbol(const Node& node) const {
    for (auto it = environment_.rbegin(); it != environment_.rend(); ++it)
      if (it->first == node.text) return it->second;
    return std::nullopt;
  }

  static Value checked(Rational value) {
    if (value.bits() > kMaxBits) return std::nullopt;
    return value;
  }

  std::optional<std::vector<Rational>> arguments(const Node& node) {
    std::vector<Rational> values;
    values.reserve(node.kids.size());
    for (const NodeId kid : node.kids) {
      Value value = evaluate(kid);
      if (!value) return std::nullopt;
      values.push_back(std::move(*value));
    }
    return values;
  }

  Value sum(const Node& node) {
    Rational total;
    for (const NodeId kid : node.kids) {
      const Value value = evaluate(kid);
      if (!value) return std::nullopt;
      budget_.spend(static_cast<int64_t>((total.bits() + value->bits()) / 256));
      fmpq_add(total.get(), total.get(), value->get());
      if (total.bits() > kMaxBits) return std::nullopt;
    }
    return total;
  }

  Value product(const Node& node) {
    Rational total(1);
    for (const NodeId kid : node.kids) {
      const Value value = evaluate(kid);
      if (!value || total.bits() + value->bits() > kMaxBits) return std::nullopt;
      budget_.spend(static_cast<int64_t>((total.bits() + value->bits()) / 256));
      fmpq_mul(total.get(), total.get(), value->get());
    }
    return total;
  }

  Value power(const Node& node) {
    const Value exponent = evaluate(node.kids[1]);
    if (!exponent) return std::nullopt;
    const Value base = evaluate(node.kids[0]);
    if (!base) return std::nullopt;
    if (exponent->is_integer()) return integer_power(*base, *exponent);
    if (!fmpz_abs_fits_ui(exponent->denominator())) return std::nullopt;
    const Value rooted = exact_root(*base, fmpz_get_ui(exponent->denominator()));
    if (!rooted) return std::nullopt;
    Rational numerator;
    fmpz_set(numerator.numerator(), exponent->numerator());
    return integer_power(*rooted, numerator);
  }

  Value integer_power(const Rational& base, const Rational& exponent) {
    // 0^0 is left undefined; 0^-1 is.
    if (base.is_zero()) return exponent.sign() > 0 ? Value(Rational(0)) : std::nullopt;
    if (base == Rational(1)) return base;
    if (base == Rational(-1)) return Rational(fmpz_is_even(exponent.numerator()) ? 1 : -1);
    constexpr long kLargest = static_cast<long>(kMaxBits);
    if (!exponent.is_integer_in(-kLargest, kLargest)) return std::nullopt;
    const long n = exponent.to_long();
    const auto size = static_cast<unsigned long>(n < 0 ? -n : n);
    if (base.bits() * size > kMaxBits) return std::nullopt;
    budget_.spend(static_cast<int64_t>(base.bits() * size / 256));
    Rational power;
    fmpq_pow_si(power.get(), base.get(), n);
    return power;
  }

  /// The real root where it is rational.
  static Value exact_root(const Rational& base, unsigned long index) {
    if (index == 0 || index > kMaxBits) return std::nullopt;
    if (base.sign() < 0 && index % 2 == 0) return std::nullopt;
    Rational root;
    for (const bool is_numerator : {true, false}) {
      fmpz* part = is_numerator ? root.numerator() : root.denominator();
      fmpz_abs(part, is_numerator ? base.numerator() : base.denominator());
      if (fmpz_is_zero(part) || fmpz_is_one(part)) continue;
      fmpz_t floor, power;
      fmpz_init(floor);
      fmpz_init(power);
      fmpz_root(floor, part, static_cast<slong>(index));
      fmpz_pow_ui(power, floor, index);
      const bool is_exact = fmpz_equal(power, part);
      fmpz_swap(part, floor);
      fmpz_clear(floor);
      fmpz_clear(power);
      if (!is_exact) return std::nullopt;
    }
    if (base.sign() < 0) fmpq_neg(root.get(), root.get());
    return root;
  }

  Value root(const Node& node) {
    const Value index = evaluate(node.kids[1]);
    if (!index || !index->is_integer_in(1, kMaxBits)) return std::nullopt;
    const Value radicand = evaluate(node.kids[0]);
    if (!radicand) return std::nullopt;
    return exact_root(*radicand, static_cast<unsigned long>(index->to_long()));
  }

  Value ratio(const Node& node) {
    if (node.kids.size() != 2) return std::nullopt;
    auto values = arguments(node);
    if (!values || (*values)[1].is_zero()) return std::nullopt;
    fmpq_div((*values)[0].get(), (*values)[0].get(), (*values)[1].get());
    return checked(std::move((*values)[0]));
  }

  Value quantity(const Node& node) {
    if (node.text == "angle") return std::nullopt;
    Value value = evaluate(node.kids[0]);
    if (value && node.text == "%")
      fmpq_div_fmpz(value->get(), value->get(), Rational(100).numerator());
    return value;
  }

  Value function(const Node& node) {
    switch (node.function) {
      case Function::kAbs:
      case Function::kFloor:
      case Function::kCeil:
      case Function::kSign:
      case Function::kFactorial:
      case Function::kDoubleFactorial:
      case Function::kBinomial:
      case Function::kGcd:
      case Function::kLcm:
      case Function::kMax:
      case Function::kMin:
      case Function::kMod:
        break;
      default:
        return std::nullopt;
    }
    auto values = arguments(node);
    if (!values) return std::nullopt;
    return apply(node.function, *values);
  }

  Value apply(Function function, std::vector<Rational>& values) {
    Rational& x = values[0];
    switch (function) {
      case Function::kAbs:
        fmpq_abs(x.get(), x.get());
        return x;
      case Function::kFloor:
        return floor_of(x);
      case Function::kCeil:
        fmpq_neg(x.get(), x.get());
        x = floor_of(x);
        fmpq_neg(x.get(), x.get());
        return x;
      case Function::kSign:
        return Rational(x.sign());
      case Function::kFactorial:
      case Function::kDoubleFactorial:
        return factorial(x, function == Function::kDoubleFactorial);
      case Function::kBinomial:
        return binomial(x, values[1]);
      case Function::kMod:
        if (values[1].is_zero()) return std::nullopt;
        return modulo(x, values[1]);
      default:
        return fold(function, values);
    }
  }

  static Rational floor_of(const Rational& x) {
    Rational floor;
    fmpz_fdiv_q(floor.numerator(), x.numerator(), x.denominator());
    return floor;
  }

  static Rational modulo(const Rational& x, const Rational& y) {
    Rational quotient;
    fmpq_div(quotient.get(), x.get(), y.get());
    Rational whole = floor_of(quotient);
    fmpq_mul(whole.get(), whole.get(), y.get());
    fmpq_sub(whole.get(), x.get(), whole.get());
    return whole;
  }

  Value factorial(const Rational& x, bool is_double) {
    if (!x.is_integer_in(0, kMaxFactorial)) return std::nullopt;
    const long n = x.to_long();
    budget_.spend(n / 16);
    Rational result(1);
    if (is_double)
      double_factorial(result.numerator(), n);
    else
      fmpz_fac_ui(result.numerator(), static_cast<unsigned long>(n));
    return result;
  }

  static void double_factorial(fmpz* result, long n) {
    fmpz_one(result);
    for (long k = n; k > 1; k -= 2) fmpz_mul_si(result, result, k);
  }

  Value binomial(const Rational& n, const Rational& k) {
    if (!n.is_integer_in(0, kMaxFactorial) || !k.is_integer_in(0, kMaxFactorial))
      return std::nullopt;
    budget_.spend(n.to_long() / 16);
    Rational result;
    fmpz_bin_uiui(result.numerator(), static_cast<unsigned long>(n.to_long()),
                  static_cast<unsigned long>(k.to_long()));
    return result;
  }

  Value fold(Function function, std::vector<Rational>& values) {
    Rational total = values[0];
    if (function == Function::kGcd || function == Function::kLcm)
      fmpq_abs(total.get(), total.get());
    for (size_t i = 1; i < values.size(); ++i) {
      const Rational& x = values[i];
      const int order = fmpq_cmp(x.get(), total.get());
      if (function == Function::kMax && order > 0) total = x;
      if (function == Function::kMin && order < 0) total = x;
      if (function == Function::kGcd) fmpq_gcd(total.get(), total.get(), x.get());
      if (function == Function::kLcm) {
        if (x.is_zero() || total.is_zero()) return Rational(0);
        Rational gcd;
        fmpq_gcd(gcd.get(), total.get(), x.get());
        fmpq_mul(total.get(), total.get(), x.get());
        fmpq_div(total.get(), total.get(), gcd.get());
        fmpq_abs(total.get(), total.get());
      }
      if (total.bits() > kMaxBits) return std::nullopt;
    }
    return total;
  }

  const Tree& tree_;
  StepBudget& budget_;
  const Environment& environment_;
};

}  // namespace

std::optional<Rational> evaluate_exact(const Tree& tree, NodeId id, StepBudget& budget,
                                       const Environment& environment) {
  return ExactEvaluator(tree, budget, environment).evaluate(id);
}

}  // namespace moerl::reward::math
