#include "experiments/evaluation/suite/suite_rows.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "common/rng.h"
#include "experiments/evaluation/suite/data_rows.h"
#include "experiments/evaluation/suite/prompt_presets.h"
#include "experiments/tasks/jsonl_rows.h"

namespace moerl::eval {
namespace {

using nlohmann::json;

std::string strip(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

std::string text_of(const json& value) {
  if (value.is_null()) return {};
  if (value.is_array() && !value.empty() &&
      std::all_of(value.begin(), value.end(), [](const json& v) { return v.is_string(); })) {
    std::string lines;
    for (const json& line : value)
      lines += (lines.empty() ? "" : "\n") + line.get_ref<const std::string&>();
    return lines;
  }
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// The name inside "{name}" at `at`; empty if what stands there is something else.
std::string_view placeholder(std::string_view text, size_t at) {
  const size_t end = text.find('}', at);
  if (end == std::string_view::npos) return {};
  const std::string_view name = text.substr(at + 1, end - at - 1);
  const auto is_name_char = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  const bool is_name = !name.empty() && !(name[0] >= '0' && name[0] <= '9') &&
                       std::all_of(name.begin(), name.end(), is_name_char);
  return is_name ? name : std::string_view{};
}

const json& field_of(const json& row, std::string_view name, const std::string& where) {
  const auto found = row.find(name);
  if (found == row.end()) throw IoError(concat(where, ": the row has no field '", name, "'"));
  return *found;
}

/// The template with the row's fields put in; braces around anything but a name stay.
std::string fill(std::string_view text, const json& row, const std::string& where) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const std::string_view name = text[at] == '{' ? placeholder(text, at) : std::string_view{};
    if (name.empty()) {
      out += text[at++];
      continue;
    }
    out += text_of(field_of(row, name, where));
    at += name.size() + 2;
  }
  return out;
}

/// As fill, but a template that is nothing but one field keeps the field's type.
json fill_value(std::string_view text, const json& row, const std::string& where) {
  if (text.starts_with('{')) {
    const std::string_view name = placeholder(text, 0);
    if (!name.empty() && name.size() + 2 == text.size()) return field_of(row, name, where);
  }
  return fill(text, row, where);
}

char letter(size_t index) { return static_cast<char>('A' + index); }

/// "(A) text" without its letter, for the choice that stands at `index`.
std::string without_letter(const std::string& choice, size_t index) {
  const std::string mark = concat("(", letter(index), ")");
  return strip(choice.starts_with(mark) ? choice.substr(mark.size()) : choice);
}

class ProblemReader {
 public:
  ProblemReader(const Suite& suite, const policy::ChatTemplate& chat_template)
      : suite_(suite),
        user_(suite.user.empty() ? std::string(prompt_preset(suite.prompt).user) : suite.user),
        chat_template_(chat_template) {}

  Problem read(const DataRow& data) const {
    const json& row = data.fields;
    const SuiteRows& rows = suite_.rows;
    Problem problem;
    problem.id = fill(rows.id, row, data.where);
    problem.group = fill(rows.group, row, data.where);
    problem.row.data_source = suite_.name;
    problem.row.ground_truth = ground_truth(row, data.where);
    json extra = json::object();
    for (const auto& [name, value] : rows.extra_info)
      extra[name] = fill_value(value, row, data.where);
    json question = {{"question", strip(fill(rows.question, row, data.where))}, {"letters", ""}};
    std::vector<std::string> choices = choices_of(row, data.where);
    if (!choices.empty()) add_choices(choices, data, question, problem.row.ground_truth, extra);
    if (!extra.empty()) problem.row.extra_info_json = extra.dump();

    std::vector<policy::ChatMessage> messages;
    if (!suite_.system.empty()) messages.push_back({"system", suite_.system});
    messages.push_back({"user", fill(user_, question, data.where)});
    problem.row.prompt = chat_template_.render(messages, true);
    return problem;
  }

 private:
  std::string ground_truth(const json& row, const std::string& where) const {
    const SuiteRows& rows = suite_.rows;
    std::string text = fill(rows.ground_truth, row, where);
    if (!rows.ground_truth_after.empty()) {
      const size_t mark = text.rfind(rows.ground_truth_after);
      if (mark == std::string::npos)
        throw IoError(concat(where, ": the ground truth has no '", rows.ground_truth_after, "'"));
      text = text.substr(mark + rows.ground_truth_after.size());
    }
    text = strip(text);
    if (text.empty()) throw IoError(concat(where, ": the ground truth is empty"));
    return text;
  }

  std::vector<std::string> choices_of(const json& row, const std::string& where) const {
    const SuiteRows& rows = suite_.rows;
    std::vector<std::string> choices;
    for (const std::string& choice : rows.choices)
      choices.push_back(strip(fill(choice, row, where)));
    if (rows.choices_field.empty()) return choices;
    const json& list = field_of(row, rows.choices_field, where);
    if (!list.is_array() || list.empty() || list.size() > 26)
      throw IoError(concat(where, ": '", rows.choices_field, "' is ", list.type_name(),
                           ", expected a list of 1 to 26 choices"));
    for (size_t i = 0; i < list.size(); ++i) choices.push_back(without_letter(text_of(list[i]), i));
    return choices;
  }

  /// Puts the choices under the question, in an order drawn for this row, and renames the truth.
  void add_choices(const std::vector<std::string>& choices, const DataRow& data, json& question,
                   std::string& truth, json& extra) const {
    std::vector<size_t> right;
    for (const char each : truth) {
      if (each == ' ' || each == ',') continue;
      right.push_back(static_cast<size_t>(each - 'A'));
      if (right.back() >= choices.size())
        throw IoError(concat(data.where, ": the right choice is '", truth,
                             "', expected letters from A to ", letter(choices.size() - 1)));
    }
    std::vector<size_t> order(choices.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (suite_.rows.shuffle_seed != 0) {
      Rng rng(static_cast<uint64_t>(suite_.rows.shuffle_seed), static_cast<uint64_t>(data.number));
      for (size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[rng.below(static_cast<uint32_t>(i))]);
    }
    std::string text = question["question"].get<std::string>() + "\n", letters;
    for (size_t i = 0; i < order.size(); ++i) {
      text += concat("\n", letter(i), ") ", choices[order[i]]);
      letters += letter(i);
      extra["choices"].push_back(choices[order[i]]);
    }
    question["question"] = text;
    question["letters"] = letters;
    extra["order"] = order;
    truth.clear();
    for (size_t i = 0; i < order.size(); ++i)
      if (std::find(right.begin(), right.end(), order[i]) != right.end()) truth += letter(i);
  }

  const Suite& suite_;
  std::string user_;
  const policy::ChatTemplate& chat_template_;
};

std::vector<Problem> cut(std::vector<Problem> problems, int64_t limit) {
  if (limit > 0 && static_cast<int64_t>(problems.size()) > limit)
    problems.resize(static_cast<size_t>(limit));
  return problems;
}

}  // namespace

std::vector<Problem> problems_of(const std::vector<PromptRow>& rows, int64_t limit) {
  std::vector<Problem> problems;
  for (const PromptRow& row : rows) problems.push_back({concat(problems.size()), "", row});
  return cut(std::move(problems), limit);
}

std::vector<Problem> read_problems(const Suite& suite, const std::filesystem::path& file,
                                   const policy::ChatTemplate& chat_template, int64_t limit) {
  if (suite.source.format == "task")
    return problems_of(load_task(suite.task, suite.directory, 1).val, limit);
  if (suite.rows.layout == "verl")
    return problems_of(read_verl_rows(file, chat_template, limit), 0);
  const ProblemReader reader(suite, chat_template);
  std::vector<Problem> problems;
  std::set<std::string> ids;
  for (const DataRow& row : read_data_rows(suite.source, file)) {
    if (limit > 0 && static_cast<int64_t>(problems.size()) == limit) break;
    problems.push_back(reader.read(row));
    if (!ids.insert(problems.back().id).second)
      throw IoError(concat(row.where, ": the id '", problems.back().id, "' occurs twice"));
  }
  if (problems.empty()) throw IoError(file.string() + ": there is no row");
  return problems;
}

}  // namespace moerl::eval
