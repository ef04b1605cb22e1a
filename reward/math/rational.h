#pragma once
#include <flint/fmpq.h>

namespace moerl::reward::math {

/// An exact rational number: owns one FLINT fmpq, always in lowest terms.
class Rational {
 public:
  Rational() { fmpq_init(value_); }
  explicit Rational(long numerator, unsigned long denominator = 1) : Rational() {
    fmpq_set_si(value_, numerator, denominator);
  }
  Rational(const Rational& other) : Rational() { fmpq_set(value_, other.value_); }
  Rational(Rational&& other) noexcept : Rational() { fmpq_swap(value_, other.value_); }
  Rational& operator=(Rational other) noexcept {
    fmpq_swap(value_, other.value_);
    return *this;
  }
  ~Rational() { fmpq_clear(value_); }

  fmpq* get() { return value_; }
  const fmpq* get() const { return value_; }
  fmpz* numerator() { return fmpq_numref(value_); }
  const fmpz* numerator() const { return fmpq_numref(value_); }
  fmpz* denominator() { return fmpq_denref(value_); }
  const fmpz* denominator() const { return fmpq_denref(value_); }

  bool is_zero() const { return fmpq_is_zero(value_); }
  bool is_integer() const { return fmpz_is_one(denominator()); }
  int sign() const { return fmpq_sgn(value_); }
  /// True for an integer in [low, high].
  bool is_integer_in(long low, long high) const {
    return is_integer() && fmpz_cmp_si(numerator(), low) >= 0 &&
           fmpz_cmp_si(numerator(), high) <= 0;
  }
  /// REQUIRES: is_integer_in some range of long.
  long to_long() const { return fmpz_get_si(numerator()); }
  /// Bits of the larger of numerator and denominator.
  size_t bits() const {
    const size_t above = fmpz_bits(numerator()), below = fmpz_bits(denominator());
    return above > below ? above : below;
  }
  bool operator==(const Rational& other) const { return fmpq_equal(value_, other.value_); }

 private:
  fmpq_t value_;
};

}  // namespace moerl::reward::math
