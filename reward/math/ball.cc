#include "reward/math/ball.h"

#include <array>

namespace moerl::reward::math {
namespace {

constexpr std::array<slong, 4> kPrecisions = {64, 128, 256, 512};
constexpr slong kDecidedBits = 333;  // 1e-100

/// True if the ball holds zero and its radius is below 2^-bits * max(1, |scale|).
bool is_tiny(const Ball& difference, const Ball& scale, slong bits) {
  mag_t radius, size, one;
  mag_init(radius);
  mag_init(size);
  mag_init(one);
  acb_get_mag(radius, difference.get());
  acb_get_mag(size, scale.get());
  mag_one(one);
  mag_max(size, size, one);
  mag_mul_2exp_si(size, size, -bits);
  const bool is_small = mag_cmp(radius, size) <= 0;
  mag_clear(radius);
  mag_clear(size);
  mag_clear(one);
  return is_small;
}

}  // namespace

bool Ball::is_real() const {
  if (arb_is_zero(imaginary())) return true;
  if (!arb_contains_zero(imaginary())) return false;
  mag_t radius;
  mag_init(radius);
  arb_get_mag(radius, imaginary());
  const bool is_small = mag_cmp_2exp_si(radius, -40) < 0;
  mag_clear(radius);
  return is_small;
}

Sameness compare_constants(const Tree& tree, NodeId a, NodeId b, StepBudget& budget) {
  for (const slong precision : kPrecisions) {
    const Ball x = evaluate_ball(tree, a, {}, precision, budget);
    const Ball y = evaluate_ball(tree, b, {}, precision, budget);
    if (!x.is_finite() || !y.is_finite()) continue;
    Ball difference;
    acb_sub(difference.get(), x.get(), y.get(), precision);
    if (!acb_contains_zero(difference.get())) return Sameness::kDifferent;
    if (precision == kPrecisions.back() && is_tiny(difference, x, kDecidedBits))
      return Sameness::kSame;
  }
  return Sameness::kUnknown;
}

BallOrder order_constants(const Tree& tree, NodeId a, NodeId b, StepBudget& budget) {
  for (const slong precision : kPrecisions) {
    const Ball x = evaluate_ball(tree, a, {}, precision, budget);
    const Ball y = evaluate_ball(tree, b, {}, precision, budget);
    if (!x.is_finite() || !y.is_finite() || !x.is_real() || !y.is_real()) continue;
    Ball difference;
    acb_sub(difference.get(), x.get(), y.get(), precision);
    if (arb_is_positive(difference.real())) return BallOrder::kGreater;
    if (arb_is_negative(difference.real())) return BallOrder::kLess;
    if (precision == kPrecisions.back() && is_tiny(difference, x, kDecidedBits))
      return BallOrder::kEqual;
  }
  return BallOrder::kUnknown;
}

bool is_close(const Tree& tree, NodeId a, NodeId b, const Rational& tolerance, StepBudget& budget) {
  constexpr slong kPrecision = 256;
  const Ball x = evaluate_ball(tree, a, {}, kPrecision, budget);
  const Ball y = evaluate_ball(tree, b, {}, kPrecision, budget);
  if (!x.is_finite() || !y.is_finite() || !x.is_real() || !y.is_real()) return false;
  Ball work, size, bound;
  acb_sub(work.get(), x.get(), y.get(), kPrecision);
  arb_abs(work.real(), work.real());
  arb_abs(size.real(), x.real());
  arb_abs(bound.real(), y.real());
  arb_max(size.real(), size.real(), bound.real(), kPrecision);
  arb_set_fmpq(bound.real(), tolerance.get(), kPrecision);
  arb_mul(bound.real(), bound.real(), size.real(), kPrecision);
  return arb_le(work.real(), bound.real());
}

}  // namespace moerl::reward::math
