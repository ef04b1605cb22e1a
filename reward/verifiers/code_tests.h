#pragma once
#include <stdexcept>
#include <string>
#include <vector>

namespace moerl::reward {

/// The ground truth of a row of a code task is not usable; the text says why.
class CodeTestsError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One test of a program. Which fields hold is said by the kind.
struct CodeTest {
  enum class Kind {
    kStdio,    ///< run with `input`, print `output`
    kCall,     ///< call_json is the source of a kJudgeCall job
    kProgram,  ///< `source` is Python test code that calls the program
  };
  Kind kind;
  std::string input, output;
  std::string call_json;
  std::string source;
};

/// The tests of a row.
struct CodeTests {
  std::vector<CodeTest> tests;
  /// Names that the program under test defines: HumanEval's entry_point.
  std::vector<std::string> names;
  /// Python source that stands before the answer: HumanEval's prompt, whose helpers tests may call.
  std::string prefix;
  /// The row's own language; empty if it says nothing.
  std::string language;
};

/// Reads the tests of a row. The keys are those of the ground truth, if it is a JSON object, and of
/// extra_info; the layouts are, first match first:
///
///   test_cases: [{input, output, fn_name?}...]     open-r1 verification_info, LiveCodeBench
///   inputs: [...], outputs: [...], fn_name?        APPS, TACO, verl
///   test: "...", entry_point: "..."                HumanEval
///   test_list: ["assert ..."], test_setup_code?    MBPP
///
/// A ground truth that is a JSON array is test_cases (objects) or test_list (texts); one that is
/// Python code with an assert is one test. An input is text, or a list of lines; with fn_name it is
/// a list of arguments, or text with one JSON value a line (LiveCodeBench), and an output is a JSON
/// value, which the older sets wrap in a list of one.
/// @throws CodeTestsError.
CodeTests parse_code_tests(const std::string& ground_truth, const std::string& extra_info_json);

}  // namespace moerl::reward
