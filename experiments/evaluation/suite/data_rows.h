#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "common/json.h"
#include "experiments/evaluation/suite/suite.h"

namespace moerl::eval {

/// One row of a data file.
struct DataRow {
  nlohmann::json fields;  ///< an object, `_row` and `_member` included
  int64_t number = 0;     ///< over all members, from 0
  std::string where;      ///< "file:line" for errors
};

/// The rows of a suite's file: lines of JSON objects, or CSV (RFC 4180) whose first line names the
/// columns unless the suite does; from a .gz file or the chosen members of a .zip, in the order of
/// their names.
/// @throws IoError naming file and line.
std::vector<DataRow> read_data_rows(const SuiteSource& source, const std::filesystem::path& file);

}  // namespace moerl::eval
