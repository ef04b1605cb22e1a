#include <algorithm>

#include "reward/math/ball.h"
#include "reward/math/evaluate_exact.h"

namespace moerl::reward::math {
namespace {

/// Terms of a sum over a range of integers.
constexpr long kMaxTerms = 10'000;
/// Larger arguments of periodic functions would need more digits of pi than are worth it.
constexpr slong kMaxPeriodicBits = 512;

class BallEvaluator {
 public:
  BallEvaluator(const Tree& tree, const Environment& environment, slong precision,
                StepBudget& budget)
      : tree_(tree), environment_(environment), precision_(precision), budget_(budget) {}

  Ball evaluate(NodeId id) {
    budget_.spend(2);
    const Node& node = tree_[id];
    Ball out;
    switch (node.kind) {
      case Kind::kNumber:
        acb_set_fmpq(out.get(), node.value.get(), precision_);
        break;
      case Kind::kPi:
        acb_const_pi(out.get(), precision_);
        break;
      case Kind::kE:
        arb_const_e(out.real(), precision_);
        break;
      case Kind::kImaginary:
        acb_onei(out.get());
        break;
      case Kind::kSymbol:
      case Kind::kCall:
      case Kind::kOpaque:
        symbol(id, out);
        break;
      case Kind::kSum:
        for (const NodeId kid : node.kids)
          acb_add(out.get(), out.get(), evaluate(kid).get(), precision_);
        break;
      case Kind::kProduct:
        acb_one(out.get());
        for (const NodeId kid : node.kids)
          acb_mul(out.get(), out.get(), evaluate(kid).get(), precision_);
        break;
      case Kind::kPower:
        return power(node);
      case Kind::kRoot:
        return root(node);
      case Kind::kRatio:
        return ratio(node);
      case Kind::kQuantity:
        return quantity(node);
      case Kind::kFunction:
        return function(id, node);
      default:
        acb_indeterminate(out.get());
    }
    return out;
  }

 private:
  static Ball undefined() {
    Ball out;
    acb_indeterminate(out.get());
    return out;
  }

  void symbol(NodeId id, Ball& out) {
    const Node& node = tree_[id];
    const std::string name = node.kind == Kind::kSymbol ? node.text : atom_name(tree_, id, budget_);
    // The innermost binding is the last.
    for (auto it = environment_.rbegin(); it != environment_.rend(); ++it)
      if (it->first == name) return acb_set_fmpq(out.get(), it->second.get(), precision_);
    acb_indeterminate(out.get());
  }

  /// @throws LimitError if |ball| may exceed 2^bits.
  static void check_size(const Ball& ball, slong bits) {
    if (!ball.is_finite()) return;
    mag_t size;
    mag_init(size);
    acb_get_mag(size, ball.get());
    const bool is_large = mag_cmp_2exp_si(size, bits) > 0;
    mag_clear(size);
    if (is_large) throw LimitError("a number is too large to be evaluated");
  }

  Ball power(const Node& node) {
    if (tree_[node.kids[0]].kind == Kind::kE) {
      Ball exponent = evaluate(node.kids[1]);
      check_size(exponent, kMaxExponentBits);
      acb_exp(exponent.get(), exponent.get(), precision_);
      return exponent;
    }
    const auto exponent = evaluate_exact(tree_, node.kids[1], budget_, environment_);
    return exponent ? rational_power(evaluate(node.kids[0]), *exponent)
                    : general_power(evaluate(node.kids[0]), evaluate(node.kids[1]));
  }

  Ball rational_power(Ball base, const Rational& exponent) {
    if (static_cast<slong>(exponent.bits()) > kMaxExponentBits)
      throw LimitError("an exponent is too large");
    if (exponent.is_integer()) {
      if (exponent.is_zero() && acb_contains_zero(base.get())) return undefined();
      acb_pow_fmpz(base.get(), base.get(), exponent.numerator(), precision_);
      return base;
    }
    if (acb_is_zero(base.get())) return exponent.sign() > 0 ? std::move(base) : undefined();
    const bool is_odd = fmpz_is_odd(exponent.denominator());
    const bool is_negative = base.is_real() && arb_is_negative(base.real());
    if (is_odd && is_negative) {
      arb_neg(base.real(), base.real());
      arb_zero(acb_imagref(base.get()));
    }
    Ball power;
    acb_set_fmpq(power.get(), exponent.get(), precision_);
    acb_pow(base.get(), base.get(), power.get(), precision_);
    if (is_odd && is_negative && fmpz_is_odd(exponent.numerator())) acb_neg(base.get(), base.get());
    return base;
  }

  Ball general_power(Ball base, Ball exponent) {
    check_size(exponent, kMaxExponentBits);
    acb_pow(base.get(), base.get(), exponent.get(), precision_);
    return base;
  }

  Ball root(const Node& node) {
    const auto index = evaluate_exact(tree_, node.kids[1], budget_, environment_);
    Ball radicand = evaluate(node.kids[0]);
    if (index && index->is_integer_in(2, 2)) {
      acb_sqrt(radicand.get(), radicand.get(), precision_);
      return radicand;
    }
    if (index && !index->is_zero()) {
      Rational exponent;
      fmpq_inv(exponent.get(), index->get());
      return rational_power(std::move(radicand), exponent);
    }
    Ball exponent = evaluate(node.kids[1]);
    acb_inv(exponent.get(), exponent.get(), precision_);
    return general_power(std::move(radicand), std::move(exponent));
  }

  Ball ratio(const Node& node) {
    if (node.kids.size() != 2) return undefined();
    Ball out = evaluate(node.kids[0]);
    acb_div(out.get(), out.get(), evaluate(node.kids[1]).get(), precision_);
    return out;
  }

  Ball quantity(const Node& node) {
    Ball out = evaluate(node.kids[0]);
    if (node.text == "%") acb_div_ui(out.get(), out.get(), 100, precision_);
    if (node.text == "angle") {
      Ball pi;
      acb_const_pi(pi.get(), precision_);
      acb_mul(out.get(), out.get(), pi.get(), precision_);
      acb_div_ui(out.get(), out.get(), 180, precision_);
    }
    return out;
  }

  Ball function(NodeId id, const Node& node) {
    budget_.spend(8);
    switch (node.function) {
      case Function::kSumOver:
      case Function::kProductOver:
        return over_range(node);
      case Function::kGcd:
      case Function::kLcm:
      case Function::kDoubleFactorial:
        return exact(id);
      case Function::kMax:
      case Function::kMin:
        return extreme(node);
      case Function::kMod:
        return modulo(node);
      case Function::kBinomial:
        return binomial(id, node);
      case Function::kLog:
        return logarithm(node);
      case Function::kFactorial: {
        Ball x = evaluate(node.kids[0]);
        check_size(x, kMaxExponentBits);
        budget_.spend(64);
        acb_add_ui(x.get(), x.get(), 1, precision_);
        acb_gamma(x.get(), x.get(), precision_);
        return x;
      }
      default: {
        Ball x = evaluate(node.kids[0]);
        apply(node.function, x);
        return x;
      }
    }
  }

  Ball exact(NodeId id) {
    const auto value = evaluate_exact(tree_, id, budget_, environment_);
    if (!value) return undefined();
    Ball out;
    acb_set_fmpq(out.get(), value->get(), precision_);
    return out;
  }

  Ball extreme(const Node& node) {
    Ball best = evaluate(node.kids[0]);
    for (size_t i = 1; i < node.kids.size(); ++i) {
      const Ball next = evaluate(node.kids[i]);
      if (!next.is_real() || !best.is_real()) return undefined();
      if (node.function == Function::kMax)
        arb_max(best.real(), best.real(), next.real(), precision_);
      else
        arb_min(best.real(), best.real(), next.real(), precision_);
    }
    return best;
  }

  Ball modulo(const Node& node) {
    Ball x = evaluate(node.kids[0]);
    const Ball y = evaluate(node.kids[1]);
    if (!x.is_real() || !y.is_real()) return undefined();
    Ball quotient;
    arb_div(quotient.real(), x.real(), y.real(), precision_);
    arb_floor(quotient.real(), quotient.real(), precision_);
    acb_submul(x.get(), quotient.get(), y.get(), precision_);
    return x;
  }

  Ball binomial(NodeId id, const Node& node) {
    Ball value = exact(id);
    if (value.is_finite()) return value;
    // n! / (k! (n-k)!)
    budget_.spend(128);
    Ball n = evaluate(node.kids[0]), k = evaluate(node.kids[1]), rest;
    check_size(n, kMaxExponentBits);
    check_size(k, kMaxExponentBits);
    acb_sub(rest.get(), n.get(), k.get(), precision_);
    for (Ball* x : {&n, &k, &rest}) {
      acb_add_ui(x->get(), x->get(), 1, precision_);
      acb_gamma(x->get(), x->get(), precision_);
    }
    acb_div(n.get(), n.get(), k.get(), precision_);
    acb_div(n.get(), n.get(), rest.get(), precision_);
    return n;
  }

  Ball logarithm(const Node& node) {
    Ball x = evaluate(node.kids[0]);
    acb_log(x.get(), x.get(), precision_);
    if (node.kids.size() == 2) {
      Ball base = evaluate(node.kids[1]);
      acb_log(base.get(), base.get(), precision_);
      acb_div(x.get(), x.get(), base.get(), precision_);
    }
    return x;
  }

  Ball over_range(const Node& node) {
    const auto first = evaluate_exact(tree_, node.kids[2], budget_, environment_);
    const auto last = evaluate_exact(tree_, node.kids[3], budget_, environment_);
    constexpr long kFar = 1'000'000'000;
    if (!first || !last || !first->is_integer_in(-kFar, kFar) || !last->is_integer_in(-kFar, kFar))
      return undefined();
    if (last->to_long() - first->to_long() >= kMaxTerms)
      throw LimitError("a sum has too many terms");
    const bool is_sum = node.function == Function::kSumOver;
    Environment inner = environment_;
    inner.emplace_back(tree_[node.kids[1]].text, Rational(0));
    Ball out;
    if (!is_sum) acb_one(out.get());
    for (long k = first->to_long(); k <= last->to_long(); ++k) {
      inner.back().second = Rational(k);
      const Ball term = BallEvaluator(tree_, inner, precision_, budget_).evaluate(node.kids[0]);
      if (is_sum)
        acb_add(out.get(), out.get(), term.get(), precision_);
      else
        acb_mul(out.get(), out.get(), term.get(), precision_);
    }
    return out;
  }

  void apply(Function function, Ball& x);

  const Tree& tree_;
  const Environment& environment_;
  slong precision_;
  StepBudget& budget_;
};

/// Functions of one argument, in place.
void BallEvaluator::apply(Function function, Ball& x) {
  acb_ptr z = x.get();
  const slong p = precision_;
  auto to_real = [&](auto&& step) {
    if (!x.is_real()) return acb_indeterminate(z);
    step(x.real());
    arb_zero(acb_imagref(z));
  };
  if (function <= Function::kCsch && function != Function::kArcsin) check_size(x, kMaxPeriodicBits);
  switch (function) {
    case Function::kSin:
      return acb_sin(z, z, p);
    case Function::kCos:
      return acb_cos(z, z, p);
    case Function::kTan:
      return acb_tan(z, z, p);
    case Function::kCot:
      return acb_cot(z, z, p);
    case Function::kSec:
      return acb_sec(z, z, p);
    case Function::kCsc:
      return acb_csc(z, z, p);
    case Function::kArcsin:
      return acb_asin(z, z, p);
    case Function::kArccos:
      return acb_acos(z, z, p);
    case Function::kArctan:
      return acb_atan(z, z, p);
    case Function::kArccot:
      acb_inv(z, z, p);
      return acb_atan(z, z, p);
    case Function::kArcsec:
      acb_inv(z, z, p);
      return acb_acos(z, z, p);
    case Function::kArccsc:
      acb_inv(z, z, p);
      return acb_asin(z, z, p);
    case Function::kSinh:
      check_size(x, kMaxExponentBits);
      return acb_sinh(z, z, p);
    case Function::kCosh:
      check_size(x, kMaxExponentBits);
      return acb_cosh(z, z, p);
    case Function::kTanh:
      check_size(x, kMaxExponentBits);
      return acb_tanh(z, z, p);
    case Function::kCoth:
      check_size(x, kMaxExponentBits);
      return acb_coth(z, z, p);
    case Function::kSech:
      check_size(x, kMaxExponentBits);
      return acb_sech(z, z, p);
    case Function::kCsch:
      check_size(x, kMaxExponentBits);
      return acb_csch(z, z, p);
    case Function::kArcsinh:
      return acb_asinh(z, z, p);
    case Function::kArccosh:
      return acb_acosh(z, z, p);
    case Function::kArctanh:
      return acb_atanh(z, z, p);
    case Function::kExp:
      check_size(x, kMaxExponentBits);
      return acb_exp(z, z, p);
    case Function::kAbs:
      acb_abs(x.real(), z, p);
      return arb_zero(acb_imagref(z));
    case Function::kFloor:
      return to_real([&](arb_ptr r) { arb_floor(r, r, p); });
    case Function::kCeil:
      return to_real([&](arb_ptr r) { arb_ceil(r, r, p); });
    case Function::kSign:
      return to_real([&](arb_ptr r) { arb_sgn(r, r); });
    case Function::kRe:
      return arb_zero(acb_imagref(z));
    case Function::kIm:
      arb_swap(x.real(), acb_imagref(z));
      return arb_zero(acb_imagref(z));
    case Function::kArg:
      acb_arg(x.real(), z, p);
      return arb_zero(acb_imagref(z));
    default:
      return acb_indeterminate(z);
  }
}

}  // namespace

Ball evaluate_ball(const Tree& tree, NodeId id, const Environment& environment, slong precision,
                   StepBudget& budget) {
  return BallEvaluator(tree, environment, precision, budget).evaluate(id);
}

}  // namespace moerl::reward::math
