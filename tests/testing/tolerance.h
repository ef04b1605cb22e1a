#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/tensor.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {

/// How far a kernel's output may lie from its double-precision reference, whose inputs are the
/// kernel's own (rounded) inputs: |got - expected| <= absolute + relative * |expected|.
struct Tolerance {
  double relative, absolute;
};

/// One rounding of a result to its type: 2^-24 for fp32, 2^-9 for bf16, and some head-room.
constexpr Tolerance rounding_tolerance(DType dtype) {
  return dtype == DType::kBF16 ? Tolerance{5e-3, 1e-6} : Tolerance{2e-6, 1e-7};
}

/// A sum of `terms` products of magnitude <= 1, accumulated in fp32 (its rounding errors add up
/// like a random walk, bounded here with a wide margin) and rounded once to the output's type.
inline Tolerance sum_tolerance(DType output, int64_t terms) {
  const double walk = 4e-7 * (std::sqrt(static_cast<double>(terms)) + 1.0);
  const Tolerance once = rounding_tolerance(output);
  return {once.relative, once.absolute + walk};
}

/// Succeeds when every element is within the tolerance; otherwise names the worst one.
inline ::testing::AssertionResult all_near(const std::vector<float>& got,
                                           const std::vector<double>& expected,
                                           Tolerance tolerance) {
  if (got.size() != expected.size())
    return ::testing::AssertionFailure()
           << "got " << got.size() << " elements, expected " << expected.size();
  double worst = 0.0;
  size_t where = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double allowed = tolerance.absolute + tolerance.relative * std::abs(expected[i]);
    const double error = std::abs(got[i] - expected[i]) / allowed;
    if (!(error <= worst)) {  // a NaN is the worst of all
      worst = error;
      where = i;
    }
    if (std::isnan(error)) break;
  }
  if (worst <= 1.0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "element " << where << ": got " << got[where] << ", expected " << expected[where]
         << ", " << worst << " times the tolerance";
}
inline ::testing::AssertionResult all_near(const Tensor& got, const std::vector<double>& expected,
                                           Tolerance tolerance) {
  return all_near(to_floats(got), expected, tolerance);
}

}  // namespace moerl::testing
