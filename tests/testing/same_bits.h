#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/exec_context.h"
#include "tests/testing/isas.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {

/// Runs op(ctx), which returns its outputs as tensors, at every instruction level of this machine
/// with 1, 2 and 3 threads. Succeeds if all outputs have the bits of the first run.
template <typename Op>
::testing::AssertionResult same_bits_everywhere(const Op& op) {
  ExecContext first_ctx(1, Isa::kPortable);
  const std::vector<Tensor> first = op(first_ctx);
  for (Isa isa : available_isas()) {
    for (int threads : {1, 2, 3}) {
      ExecContext ctx(threads, isa);
      const std::vector<Tensor> outputs = op(ctx);
      for (size_t i = 0; i < first.size(); ++i)
        if (!same_bits(outputs[i], first[i]))
          return ::testing::AssertionFailure()
                 << "output " << i << " at level " << isa_name(isa) << " with " << threads
                 << " threads differs from portable with 1";
    }
  }
  return ::testing::AssertionSuccess();
}

/// Expects std::invalid_argument with `part` in its text.
#define EXPECT_INVALID_ARGUMENT(statement, part)                                              \
  EXPECT_THROW(                                                                               \
      {                                                                                       \
        try {                                                                                 \
          statement;                                                                          \
        } catch (const std::invalid_argument& error) {                                        \
          EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what(); \
          throw;                                                                              \
        }                                                                                     \
      },                                                                                      \
      std::invalid_argument)

/// A central difference of f in one of its variables, an exact derivative's yardstick.
template <typename F>
double central_difference(const F& f, double& variable, double step = 1e-5) {
  const double kept = variable;
  variable = kept + step;
  const double up = f();
  variable = kept - step;
  const double down = f();
  variable = kept;
  return (up - down) / (2 * step);
}

}  // namespace moerl::testing
