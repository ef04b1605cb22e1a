#pragma once
#include <acb.h>

#include <string>
#include <utility>
#include <vector>

#include "reward/math/expression.h"

namespace moerl::reward::math {

/// A complex number with a proven error bound: owns one Arb acb.
class Ball {
 public:
  Ball() { acb_init(value_); }
  Ball(Ball&& other) noexcept : Ball() { acb_swap(value_, other.value_); }
  Ball(const Ball&) = delete;
  Ball& operator=(Ball&& other) noexcept {
    acb_swap(value_, other.value_);
    return *this;
  }
  ~Ball() { acb_clear(value_); }

  acb_ptr get() { return value_; }
  acb_srcptr get() const { return value_; }
  arb_ptr real() { return acb_realref(value_); }
  arb_srcptr real() const { return acb_realref(value_); }
  arb_srcptr imaginary() const { return acb_imagref(value_); }

  bool is_finite() const { return acb_is_finite(value_); }
  /// The imaginary part is zero or not told apart from it within 2^-40.
  bool is_real() const;

 private:
  acb_t value_;
};

/// Encloses the value of a scalar at the precision; not finite where it is undefined or unknown.
/// Powers of negative numbers with odd denominators and odd roots take the real value; what else
/// has branches takes the principal one. @throws LimitError.
Ball evaluate_ball(const Tree& tree, NodeId id, const Environment& environment, slong precision,
                   StepBudget& budget);

enum class BallOrder { kLess, kEqual, kGreater, kUnknown };

/// Order of two real constants by balls of 64 to 512 bits: kEqual if they are not told apart at 512
/// bits and the difference is below 1e-100 (relative); kUnknown if undefined or not real.
BallOrder order_constants(const Tree& tree, NodeId a, NodeId b, StepBudget& budget);

enum class Sameness { kSame, kDifferent, kUnknown };
/// Sameness of two constants, real or complex, decided as by order_constants.
Sameness compare_constants(const Tree& tree, NodeId a, NodeId b, StepBudget& budget);

/// @return |a - b| <= tolerance * max(|a|, |b|), certainly. Both are constants.
bool is_close(const Tree& tree, NodeId a, NodeId b, const Rational& tolerance, StepBudget& budget);

}  // namespace moerl::reward::math
