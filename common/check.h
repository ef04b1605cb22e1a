#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

#include "common/error.h"

namespace moerl {

/// Concatenates the parts with operator<<.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

/// Refuses a caller's mistake (shape, type, range). The parts name the operation and the argument,
/// what was got and what was expected.
/// @throws std::invalid_argument if the condition is false.
template <typename... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]]
    throw std::invalid_argument(concat(parts...));
}

/// Guards what only a defect of moerl itself can break.
/// @throws std::logic_error if the condition is false.
template <typename... Parts>
void check_internal(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]]
    throw std::logic_error(concat("internal error: ", parts...));
}

}  // namespace moerl
