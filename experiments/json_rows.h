#pragma once
#include <functional>
#include <iosfwd>
#include <stdexcept>
#include <string>

#include "common/json.h"

namespace moerl {

/// One line of a JSON-lines file; keys stay in their order.
using Row = nlohmann::ordered_json;

/// What is wrong with one row.
class RowError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A value for an error text: short ones as they are, long ones by their type.
std::string shown(const Row& value);

/// Calls f for every line of JSON lines, an object each; blank lines are skipped.
/// @param source  name of the input for error texts.
/// @throws IoError after the last line if f threw RowError, or a line is no JSON object: it lists
///   source:line of every one (the first twenty in words). IoError if the input cannot be read.
void for_each_row(std::istream& in, const std::string& source, const std::function<void(Row)>& f);

}  // namespace moerl
