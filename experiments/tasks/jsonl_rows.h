#pragma once
#include <filesystem>

#include "experiments/tasks/task.h"
#include "policy/chat_template.h"

namespace moerl {

/// Reads the files of a `jsonl` task. Row formats:
///   verl   {"data_source", "prompt": text or [{"role", "content"}, …], "reward_model":
///   {"ground_truth"},
///          "extra_info"}
///   gsm8k  {"question", "answer"}: the ground truth is what follows the answer's last "####"
/// Demonstrations are rows {"prompt", "completion"}; for gsm8k rows the published solution becomes
/// one.
/// @throws IoError naming file and line for a row that does not fit.
TaskData read_jsonl_task(const TaskConfig& config, const std::filesystem::path& directory);

/// The rows of one file in verl's format, all or the first `limit`. Errors as above.
std::vector<PromptRow> read_verl_rows(const std::filesystem::path& file,
                                      const policy::ChatTemplate& chat_template, int64_t limit);

}  // namespace moerl
