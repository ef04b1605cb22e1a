#include "experiments/tasks/jsonl_rows.h"

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "policy/chat_template.h"

namespace moerl {
namespace {

using nlohmann::json;

/// Calls f(row, "file:line") for every line of a JSONL file until `rows`, which counts over files,
/// has reached `limit` (0: never).
template <typename F>
void for_each_row(const std::filesystem::path& path, int64_t limit, int64_t& rows, const F& f) {
  const std::string text = read_file(path);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size() && (limit == 0 || rows < limit);) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    ++number;
    const std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = concat(path.string(), ":", number);
    const json row = try_parse_json(line);
    if (!row.is_object()) throw IoError(concat(where, ": expected a JSON object"));
    f(row, where);
    ++rows;
  }
}

std::string text_field(const json& row, const char* name, const std::string& where) {
  if (!row.contains(name) || !row[name].is_string())
    throw IoError(concat(where, ": expected text in '", name, "'"));
  return row[name].get<std::string>();
}

class RowReader {
 public:
  RowReader(const TaskConfig& config, policy::ChatTemplate chat_template)
      : config_(config), template_(std::move(chat_template)) {}

  PromptRow read(const json& row, const std::string& where) const {
    return config_.row_format == "gsm8k" ? gsm8k(row, where) : verl(row, where);
  }

  std::string render(const std::string& question) const {
    std::string content = question;
    if (!config_.instruction.empty()) content += "\n" + config_.instruction;
    const policy::ChatMessage message = {"user", content};
    return template_.render(std::span(&message, 1), true);
  }

 private:
  PromptRow gsm8k(const json& row, const std::string& where) const {
    const std::string answer = text_field(row, "answer", where);
    const size_t mark = answer.rfind("####");
    if (mark == std::string::npos) throw IoError(concat(where, ": the answer has no '####'"));
    const size_t begin = answer.find_first_not_of(' ', mark + 4);
    if (begin == std::string::npos) throw IoError(concat(where, ": nothing follows '####'"));
    return {"gsm8k", render(text_field(row, "question", where)), answer.substr(begin), ""};
  }

  PromptRow verl(const json& row, const std::string& where) const {
    PromptRow result;
    result.data_source = text_field(row, "data_source", where);
    if (!row.contains("reward_model") || !row["reward_model"].is_object() ||
        !row["reward_model"].contains("ground_truth"))
      throw IoError(concat(where, ": expected reward_model.ground_truth"));
    const json& truth = row["reward_model"]["ground_truth"];
    result.ground_truth = truth.is_string() ? truth.get<std::string>() : truth.dump();
    if (row.contains("extra_info") && !row["extra_info"].is_null())
      result.extra_info_json = row["extra_info"].dump();
    if (!row.contains("prompt")) throw IoError(concat(where, ": expected a prompt"));
    const json& prompt = row["prompt"];
    if (prompt.is_string()) {
      result.prompt = render(prompt.get<std::string>());
      return result;
    }
    if (!prompt.is_array() || prompt.empty())
      throw IoError(concat(where, ": prompt must be text or a list of messages"));
    std::vector<policy::ChatMessage> messages;
    for (const json& message : prompt)
      messages.push_back(
          {text_field(message, "role", where), text_field(message, "content", where)});
    if (!config_.instruction.empty()) messages.back().content += "\n" + config_.instruction;
    try {
      result.prompt = template_.render(messages, true);
    } catch (const std::invalid_argument& error) {
      throw IoError(concat(where, ": ", error.what()));
    }
    return result;
  }

  const TaskConfig& config_;
  policy::ChatTemplate template_;
};

}  // namespace

TaskData read_jsonl_task(const TaskConfig& config, const std::filesystem::path& directory) {
  const RowReader reader(config,
                         policy::ChatTemplate::named(config.chat_template, config.bos_token));
  const auto resolve = [&](const std::string& file) {
    const std::filesystem::path path = file;
    return path.is_absolute() ? path : directory / path;
  };
  TaskData task;
  task.verifier = config.row_format == "gsm8k" ? "gsm8k" : "exact_match";
  int64_t train_rows = 0, val_rows = 0, demonstration_rows = 0;
  for (const std::string& file : config.train_files) {
    for_each_row(resolve(file), config.max_train_rows, train_rows,
                 [&](const json& row, const std::string& where) {
                   task.train.push_back(reader.read(row, where));
                   if (config.row_format == "gsm8k")
                     task.demonstrations.push_back(
                         {task.train.back().prompt, text_field(row, "answer", where)});
                 });
  }
  for (const std::string& file : config.val_files) {
    for_each_row(resolve(file), config.max_val_rows, val_rows,
                 [&](const json& row, const std::string& where) {
                   task.val.push_back(reader.read(row, where));
                 });
  }
  for (const std::string& file : config.demonstration_files) {
    for_each_row(resolve(file), 0, demonstration_rows,
                 [&](const json& row, const std::string& where) {
                   task.demonstrations.push_back({reader.render(text_field(row, "prompt", where)),
                                                  text_field(row, "completion", where)});
                 });
  }
  return task;
}

std::vector<PromptRow> read_verl_rows(const std::filesystem::path& file,
                                      const policy::ChatTemplate& chat_template, int64_t limit) {
  const TaskConfig config;
  const RowReader reader(config, chat_template);
  std::vector<PromptRow> result;
  int64_t rows = 0;
  for_each_row(file, limit, rows, [&](const json& row, const std::string& where) {
    result.push_back(reader.read(row, where));
  });
  return result;
}

}  // namespace moerl
