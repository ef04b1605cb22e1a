#pragma once
#include <string_view>

namespace moerl::reward {

/// True if a program printed what was expected, as LiveCodeBench compares: the same number of lines
/// after stripping the whole, each line equal after stripping, or the same number of words, each
/// pair equal as decimal numbers, exactly (1.0 equals 1.00 and 10e-1).
/// @param tolerance  largest absolute or relative difference of two numbers that is still right;
///   0: exact.
bool same_output(std::string_view got, std::string_view expected, double tolerance);

}  // namespace moerl::reward
