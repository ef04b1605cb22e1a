#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace moerl::reward::math {

/// Bounds on one answer and on the work of one comparison. What exceeds them is refused before the
/// work is done, so no answer can hang a verifier or exhaust its stack or memory.
inline constexpr size_t kMaxAnswerBytes = 4096;
inline constexpr size_t kMaxTokens = 2048;
inline constexpr size_t kMaxDigitRun = 256;
inline constexpr size_t kMaxTotalDigits = 2048;
inline constexpr size_t kMaxCommands = 512;
/// Brackets, groups, environments and other constructs inside one another. Bounds the recursion of
/// the parser and of everything that walks an expression.
inline constexpr int kMaxDepth = 64;
inline constexpr int kMaxTreeDepth = 256;
inline constexpr size_t kMaxNodes = 4096;
inline constexpr size_t kMaxMatrixCells = 256;
/// Elements of a set or list that are matched with those of another.
inline constexpr size_t kMaxElements = 64;
/// Bits of a numerator or denominator that exact arithmetic may produce.
inline constexpr size_t kMaxBits = size_t{1} << 16;
/// Largest n of an exact n!.
inline constexpr long kMaxFactorial = 3000;
/// Bits of an exponent in ball arithmetic.
inline constexpr long kMaxExponentBits = 40;
/// Node operations of one comparison.
inline constexpr int64_t kMaxSteps = 100'000;

/// The text is not an answer of the grammar.
struct ParseError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The text is larger, or the work would be, than the limits above.
struct LimitError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Counts node operations of one comparison.
class StepBudget {
 public:
  /// @throws LimitError when kMaxSteps are spent.
  void spend(int64_t steps) {
    left_ -= steps;
    if (left_ < 0) throw LimitError("the comparison takes too many steps");
  }

 private:
  int64_t left_ = kMaxSteps;
};

}  // namespace moerl::reward::math
