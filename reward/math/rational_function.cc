#include "reward/math/rational_function.h"

#include <flint/fmpq_mpoly.h>

#include <algorithm>
#include <optional>

#include "reward/math/evaluate_exact.h"

namespace moerl::reward::math {
namespace {

constexpr slong kMaxTerms = 400;
constexpr long kMaxExponent = 200;
constexpr slong kMaxDegree = 1000;
constexpr size_t kMaxSymbols = 12;
constexpr size_t kMaxCoefficientBits = 2048;

class Context {
 public:
  explicit Context(size_t num_symbols) {
    fmpq_mpoly_ctx_init(context_, static_cast<slong>(num_symbols), ORD_LEX);
  }
  ~Context() { fmpq_mpoly_ctx_clear(context_); }
  Context(const Context&) = delete;
  const fmpq_mpoly_ctx_struct* get() const { return context_; }

 private:
  fmpq_mpoly_ctx_t context_;
};

class Polynomial {
 public:
  explicit Polynomial(const Context& context) : context_(context.get()) {
    fmpq_mpoly_init(value_, context_);
  }
  Polynomial(Polynomial&& other) noexcept : context_(other.context_) {
    fmpq_mpoly_init(value_, context_);
    fmpq_mpoly_swap(value_, other.value_, context_);
  }
  Polynomial& operator=(Polynomial&& other) noexcept {
    fmpq_mpoly_swap(value_, other.value_, context_);
    return *this;
  }
  ~Polynomial() { fmpq_mpoly_clear(value_, context_); }

  fmpq_mpoly_struct* get() { return value_; }
  const fmpq_mpoly_struct* get() const { return value_; }
  slong length() const { return fmpq_mpoly_length(value_, context_); }
  bool is_zero() const { return fmpq_mpoly_is_zero(value_, context_); }

 private:
  const fmpq_mpoly_ctx_struct* context_;
  fmpq_mpoly_t value_;
};

struct Quotient {
  Polynomial above, below;
};
using Value = std::optional<Quotient>;

class Expander {
 public:
  Expander(const Tree& tree, const std::vector<std::string>& symbols, const Context& context,
           StepBudget& budget)
      : tree_(tree), symbols_(symbols), context_(context), budget_(budget) {}

  Value expand(NodeId id) {
    budget_.spend(1);
    const Node& node = tree_[id];
    switch (node.kind) {
      case Kind::kNumber:
        return constant(node.value);
      case Kind::kSymbol:
      case Kind::kCall:
        return symbol(id);
      case Kind::kSum:
        return sum(node);
      case Kind::kProduct:
        return product(node);
      case Kind::kPower:
        return power(node);
      case Kind::kQuantity:
        return node.text == "%" || node.text == "angle" ? std::nullopt : expand(node.kids[0]);
      default: {
        const auto value = evaluate_exact(tree_, id, budget_);
        return value ? constant(*value) : std::nullopt;
      }
    }
  }

  std::optional<Polynomial> times(const Polynomial& a, const Polynomial& b) {
    if (a.length() * b.length() > 16 * kMaxTerms) return std::nullopt;
    budget_.spend(1 + a.length() * b.length() / 4);
    Polynomial out(context_);
    fmpq_mpoly_mul(out.get(), a.get(), b.get(), context_.get());
    if (out.length() > kMaxTerms) return std::nullopt;
    return out;
  }

 private:
  Polynomial one() const {
    Polynomial out(context_);
    fmpq_mpoly_one(out.get(), context_.get());
    return out;
  }

  Value constant(const Rational& value) const {
    if (value.bits() > kMaxCoefficientBits) return std::nullopt;
    Quotient out{Polynomial(context_), one()};
    fmpq_mpoly_set_fmpq(out.above.get(), value.get(), context_.get());
    return out;
  }

  Value symbol(NodeId id) {
    const std::string name = atom_name(tree_, id, budget_);
    const auto it = std::lower_bound(symbols_.begin(), symbols_.end(), name);
    if (it == symbols_.end() || *it != name) return std::nullopt;
    Quotient out{Polynomial(context_), one()};
    fmpq_mpoly_gen(out.above.get(), it - symbols_.begin(), context_.get());
    return out;
  }

  Value sum(const Node& node) {
    Value total = constant(Rational(0));
    for (const NodeId kid : node.kids) {
      Value next = expand(kid);
      if (!next) return std::nullopt;
      if (fmpq_mpoly_equal(total->below.get(), next->below.get(), context_.get())) {
        budget_.spend(1 + (total->above.length() + next->above.length()) / 8);
        fmpq_mpoly_add(total->above.get(), total->above.get(), next->above.get(), context_.get());
      } else {
        auto left = times(total->above, next->below);
        auto right = times(next->above, total->below);
        auto below = times(total->below, next->below);
        if (!left || !right || !below) return std::nullopt;
        fmpq_mpoly_add(total->above.get(), left->get(), right->get(), context_.get());
        total->below = std::move(*below);
      }
      if (total->above.length() > kMaxTerms) return std::nullopt;
    }
    return total;
  }

  Value product(const Node& node) {
    Value total = constant(Rational(1));
    for (const NodeId kid : node.kids) {
      Value next = expand(kid);
      if (!next) return std::nullopt;
      auto above = times(total->above, next->above);
      auto below = times(total->below, next->below);
      if (!above || !below) return std::nullopt;
      total = Quotient{std::move(*above), std::move(*below)};
    }
    return total;
  }

  Value power(const Node& node) {
    const auto exponent = evaluate_exact(tree_, node.kids[1], budget_);
    if (!exponent || !exponent->is_integer_in(-kMaxExponent, kMaxExponent)) return std::nullopt;
    Value base = expand(node.kids[0]);
    if (!base) return std::nullopt;
    const long n = exponent->to_long();
    if (n < 0) std::swap(base->above, base->below);
    if (base->below.is_zero()) return std::nullopt;
    const long size = n < 0 ? -n : n;
    if (size == 1) return base;
    // A number to a power was refused by evaluate_exact where it is too large.
    for (Polynomial* part : {&base->above, &base->below}) {
      if (part->length() > 1 && size > 12) return std::nullopt;
      if (fmpq_mpoly_total_degree_si(part->get(), context_.get()) * size > kMaxDegree)
        return std::nullopt;
      if (part->length() > 1) {
        Polynomial raised = one();
        for (long i = 0; i < size; ++i) {
          auto next = times(raised, *part);
          if (!next) return std::nullopt;
          raised = std::move(*next);
        }
        *part = std::move(raised);
      } else {
        budget_.spend(size);
        fmpq_mpoly_pow_ui(part->get(), part->get(), static_cast<ulong>(size), context_.get());
      }
    }
    return base;
  }

  const Tree& tree_;
  const std::vector<std::string>& symbols_;
  const Context& context_;
  StepBudget& budget_;
};

/// Sign of c if a = c * b; 0 if there is no such c.
int proportion(const Polynomial& a, const Polynomial& b, const Context& context) {
  if (a.is_zero() || b.is_zero()) return a.is_zero() && b.is_zero() ? 1 : 0;
  // FLINT keeps a rational content and a primitive integer polynomial with positive leading term.
  if (!fmpz_mpoly_equal(a.get()->zpoly, b.get()->zpoly, context.get()->zctx)) return 0;
  return fmpq_sgn(a.get()->content) * fmpq_sgn(b.get()->content);
}

/// Without the common factor of numerator and denominator, where it is found cheaply.
Polynomial reduced_numerator(Quotient& quotient, const Context& context) {
  Polynomial gcd(context), reduced(context);
  const bool is_small = quotient.above.length() <= 40 && quotient.below.length() <= 40;
  if (is_small && quotient.below.length() > 0 &&
      !fmpq_mpoly_is_fmpq(quotient.below.get(), context.get()) &&
      fmpq_mpoly_gcd(gcd.get(), quotient.above.get(), quotient.below.get(), context.get()) &&
      fmpq_mpoly_divides(reduced.get(), quotient.above.get(), gcd.get(), context.get()))
    return reduced;
  fmpq_mpoly_set(reduced.get(), quotient.above.get(), context.get());
  return reduced;
}

}  // namespace

RationalFunctions compare_rational_functions(const Tree& tree, NodeId a, NodeId b,
                                             const std::vector<std::string>& symbols,
                                             StepBudget& budget) {
  RationalFunctions result;
  if (symbols.size() > kMaxSymbols) return result;
  const Context context(symbols.size());
  Expander expander(tree, symbols, context, budget);
  Value x = expander.expand(a);
  if (!x) return result;
  Value y = expander.expand(b);
  if (!y) return result;
  const auto left = expander.times(x->above, y->below);
  const auto right = expander.times(y->above, x->below);
  if (!left || !right) return result;
  result.same = fmpq_mpoly_equal(left->get(), right->get(), context.get()) ? Sameness::kSame
                                                                           : Sameness::kDifferent;
  result.proportional_sign = proportion(*left, *right, context);
  result.same_zeros =
      proportion(reduced_numerator(*x, context), reduced_numerator(*y, context), context) != 0;
  return result;
}

}  // namespace moerl::reward::math
