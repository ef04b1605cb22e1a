#include "experiments/json_rows.h"

#include <istream>

#include "common/check.h"
#include "common/error.h"

namespace moerl {
namespace {

constexpr size_t kMaxProblemsShown = 20, kMaxShown = 60;

Row parse(const std::string& line) {
  Row row;
  try {
    row = Row::parse(line);
  } catch (const Row::exception& error) {
    throw RowError(concat("not JSON: ", error.what()));
  }
  if (!row.is_object())
    throw RowError(concat("the line is ", shown(row), ", expected a JSON object"));
  return row;
}

}  // namespace

std::string shown(const Row& value) {
  const std::string text = value.dump(-1, ' ', false, Row::error_handler_t::replace);
  return text.size() <= kMaxShown ? text : concat("a JSON ", value.type_name());
}

void for_each_row(std::istream& in, const std::string& source, const std::function<void(Row)>& f) {
  std::string line, problems;
  size_t num_problems = 0;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      f(parse(line));
    } catch (const RowError& error) {
      if (++num_problems <= kMaxProblemsShown)
        problems += concat("\n  ", source, ":", number, ": ", error.what());
    }
  }
  if (in.bad()) throw IoError(concat(source, ": cannot be read"));
  if (num_problems > kMaxProblemsShown)
    problems += concat("\n  and ", num_problems - kMaxProblemsShown, " more");
  if (num_problems > 0) throw IoError(concat(num_problems, " rows cannot be used:", problems));
}

}  // namespace moerl
