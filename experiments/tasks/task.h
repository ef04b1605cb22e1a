#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "common/config.h"

namespace moerl {

/// One problem: verl's row layout, with the prompt already rendered to text.
struct PromptRow {
  std::string data_source;   ///< groups metrics, such as "countdown" or "gsm8k"
  std::string prompt;        ///< what the model is given, all of it
  std::string ground_truth;  ///< what the verifier compares with
  std::string extra_info_json;
};

/// One demonstration of an SFT stage.
struct DemoRow {
  std::string prompt,
      completion;  ///< text; the end-of-sequence token is added when it is tokenised
};

/// Numbers that make the countdown task; see tasks/countdown.h.
struct CountdownConfig {
  int64_t num_numbers = 3;         ///< given numbers of one problem
  int64_t max_number = 10;         ///< each is in [1, max_number]
  int64_t max_target = 50;         ///< the target is in [1, max_target]
  int64_t max_value = 60;          ///< every value on the way is in [1, max_value]
  int64_t val_size = 256;          ///< held-out problems; none of them is trained on
  int64_t demonstrations = 24000;  ///< of the SFT stage
  double closest = 0.75;           ///< how often an attempt is finished as well as it can be
  double give_up = 0.2;            ///< how often the search ends after a failed attempt
};

/// Which problems, and how they are put to the model.
struct TaskConfig {
  std::string name = "countdown";  ///< countdown, or jsonl: rows of files
  CountdownConfig countdown;
  // jsonl
  std::vector<std::string> train_files;  ///< relative to the recipe
  std::vector<std::string> val_files;
  std::vector<std::string> demonstration_files;  ///< rows {"prompt": …, "completion": …} for SFT
  std::string row_format =
      "verl";  ///< verl (data_source, prompt, reward_model, …) or gsm8k (question, answer)
  std::string chat_template = "none";  ///< how a prompt becomes text; see policy/chat_template.h
  std::string bos_token;    ///< text before every prompt of the templates plain and r1_zero
  std::string instruction;  ///< appended to every question
  int64_t max_train_rows = 0, max_val_rows = 0;  ///< 0: all
};
void visit_fields(FieldVisitor& v, TaskConfig& c);

/// A task, loaded.
struct TaskData {
  std::vector<PromptRow> train, val;
  std::vector<DemoRow> demonstrations;
  std::string verifier;        ///< that scores it unless the recipe names another
  std::string tokenizer_json;  ///< a tokenizer made for the task; empty: the model brings one
};

/// Generates or reads the task. A pure function of its arguments and the files.
/// @param directory  that relative paths start from.
/// @throws ConfigError, IoError naming file and line.
TaskData load_task(const TaskConfig& config, const std::filesystem::path& directory, uint64_t seed);

}  // namespace moerl
