#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/evaluation/suite/suite.h"
#include "policy/chat_template.h"

namespace moerl::eval {

/// One problem of a suite, as the model is asked it.
struct Problem {
  std::string id;     ///< unique within the suite
  std::string group;  ///< may be empty
  PromptRow row;
};

/// Reads the problems of a suite.
/// @param file  the suite's data; ignored for suites of format task.
/// @param limit  only the first so many; 0: all.
/// @throws IoError naming file and row for one that does not fit; ConfigError.
std::vector<Problem> read_problems(const Suite& suite, const std::filesystem::path& file,
                                   const policy::ChatTemplate& chat_template, int64_t limit);

/// Problems of held-out rows; ids are their numbers.
std::vector<Problem> problems_of(const std::vector<PromptRow>& rows, int64_t limit);

}  // namespace moerl::eval
