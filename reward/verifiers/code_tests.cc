#include "reward/verifiers/code_tests.h"

#include <sstream>

#include "common/check.h"
#include "common/json.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

using nlohmann::json;
using Kind = CodeTest::Kind;

template <typename... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw CodeTestsError(concat(parts...));
}

/// Keys of the row: the ground truth's first, then those of extra_info.
class Row {
 public:
  Row(json first, json second) : first_(std::move(first)), second_(std::move(second)) {}

  /// Null if no part has the key, or only with null.
  const json& find(const char* key) const {
    static const json kNull;
    for (const json* part : {&first_, &second_})
      if (const auto it = part->find(key); it != part->end() && !it->is_null()) return *it;
    return kNull;
  }
  std::string text(const char* key) const {
    const json& value = find(key);
    if (value.is_null()) return "";
    if (!value.is_string()) refuse(key, " is a JSON ", value.type_name(), ", expected text");
    return value.get<std::string>();
  }

 private:
  const json first_, second_;
};

/// Text as it is; a list of texts as lines.
std::string lines_of(const json& value, const char* what) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) refuse(what, " is a JSON ", value.type_name(), ", expected text");
  std::string text;
  for (const json& line : value) {
    if (!text.empty()) text += '\n';
    text += line.is_string() ? line.get<std::string>() : line.dump();
  }
  return text;
}

json parse_value(const std::string& text, const char* what) {
  json value = try_parse_json(text);
  if (value.is_discarded()) refuse(what, " '", truncate_utf8(text, 80), "' is not JSON");
  return value;
}

CodeTest call_test(const std::string& function, const json& input, const json& output) {
  json args = json::array(), expected = json::array();
  if (input.is_string()) {
    std::istringstream in(input.get<std::string>());
    for (std::string line; std::getline(in, line);)
      if (!strip(line).empty()) args.push_back(parse_value(line, "the argument"));
    expected.push_back(output.is_string() ? parse_value(output.get<std::string>(), "the output")
                                          : output);
  } else {
    if (!input.is_array())
      refuse("the input of ", function, " is a JSON ", input.type_name(),
             ", expected a list of arguments");
    args = input;
    expected.push_back(output);
    if (output.is_array() && !output.empty()) expected.push_back(output[0]);
  }
  CodeTest test{.kind = Kind::kCall};
  test.call_json = json{{"function", function}, {"args", args}, {"expected", expected}}.dump();
  return test;
}

CodeTest case_test(const std::string& function, const json& input, const json& output) {
  if (!function.empty()) return call_test(function, input, output);
  return {.kind = Kind::kStdio,
          .input = lines_of(input, "the input"),
          .output = lines_of(output, "the output")};
}

void add_cases(const json& cases, const std::string& function, CodeTests& tests) {
  if (!cases.is_array()) refuse("test_cases is a JSON ", cases.type_name(), ", expected a list");
  for (const json& each : cases) {
    if (!each.is_object() || !each.contains("input") || !each.contains("output"))
      refuse("a test case is ", truncate_utf8(each.dump(), 80), ", expected {input, output}");
    std::string name = function;
    if (const auto it = each.find("fn_name"); it != each.end() && it->is_string())
      name = it->get<std::string>();
    if (const auto it = each.find("testtype"); it != each.end() && *it == "stdin") name.clear();
    tests.tests.push_back(case_test(name, each["input"], each["output"]));
  }
}

void add_pairs(const json& inputs, const json& outputs, const std::string& function,
               CodeTests& tests) {
  if (!inputs.is_array() || !outputs.is_array() || inputs.size() != outputs.size())
    refuse("inputs and outputs are ", inputs.is_array() ? inputs.size() : 0, " and ",
           outputs.is_array() ? outputs.size() : 0, ", expected two lists of one length");
  for (size_t i = 0; i < inputs.size(); ++i)
    tests.tests.push_back(case_test(function, inputs[i], outputs[i]));
}

void add_asserts(const json& list, const std::string& setup, CodeTests& tests) {
  if (!list.is_array()) refuse("test_list is a JSON ", list.type_name(), ", expected a list");
  for (const json& each : list) {
    if (!each.is_string()) refuse("a test is a JSON ", each.type_name(), ", expected Python code");
    tests.tests.push_back(
        {.kind = Kind::kProgram, .source = setup + "\n" + each.get<std::string>() + "\n"});
  }
}

std::string function_name(const Row& row) {
  for (const char* key : {"fn_name", "func_name"})
    if (const std::string name = row.text(key); !name.empty()) return name;
  const json& metadata = row.find("metadata");
  const json parsed = metadata.is_string() ? try_parse_json(metadata.get<std::string>()) : metadata;
  return parsed.is_object() && parsed.contains("func_name") && parsed["func_name"].is_string()
             ? parsed["func_name"].get<std::string>()
             : "";
}

}  // namespace

CodeTests parse_code_tests(const std::string& ground_truth, const std::string& extra_info_json) {
  json extra = try_parse_json(extra_info_json);
  if (!extra.is_object()) extra = json::object();
  json truth = try_parse_json(ground_truth);
  if (truth.is_array() && !truth.empty())
    truth = {{truth[0].is_object() ? "test_cases" : "test_list", truth}};
  if (!truth.is_object()) {
    truth = json::object();
    if (ground_truth.find("assert") != std::string::npos)
      truth["test"] = ground_truth;
    else if (!strip(ground_truth).empty() && strip(ground_truth) != "[]")
      refuse("the ground truth is '", truncate_utf8(ground_truth, 80),
             "', expected JSON or Python asserts");
  }
  const Row row(std::move(truth), std::move(extra));

  CodeTests tests;
  tests.language = row.text("language");
  const std::string function = function_name(row), entry_point = row.text("entry_point");
  if (const json& cases = row.find("test_cases"); !cases.is_null()) {
    add_cases(cases, function, tests);
  } else if (const json& inputs = row.find("inputs"); !inputs.is_null()) {
    add_pairs(inputs, row.find("outputs"), function, tests);
  } else if (std::string test = row.text("test"); !test.empty()) {
    if (!entry_point.empty()) {
      tests.names.push_back(entry_point);
      test += "\ncheck(" + entry_point + ")\n";
      tests.prefix = row.text("prompt");
    }
    tests.tests.push_back({.kind = Kind::kProgram, .source = std::move(test)});
  } else if (const json& list = row.find("test_list"); !list.is_null()) {
    add_asserts(list, row.text("test_setup_code"), tests);
  }
  if (tests.tests.empty())
    refuse("the row has no tests, expected test_cases, inputs and outputs, test or test_list");
  return tests;
}

}  // namespace moerl::reward
