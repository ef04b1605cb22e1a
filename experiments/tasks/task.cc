#include "experiments/tasks/task.h"

#include "common/check.h"
#include "experiments/tasks/countdown.h"
#include "experiments/tasks/jsonl_rows.h"

namespace moerl {

static void visit_fields(FieldVisitor& v, CountdownConfig& c) {
  v.field("num_numbers", c.num_numbers, {2, 6});
  v.field("max_number", c.max_number, {2, 100});
  v.field("max_target", c.max_target, {1, 999});
  v.field("max_value", c.max_value, {2, 999});
  v.field("val_size", c.val_size, kAtLeastOne);
  v.field("demonstrations", c.demonstrations, kNotNegative);
  v.field("closest", c.closest, kUnit);
  v.field("give_up", c.give_up, kUnit);
  v.require(c.max_target <= c.max_value, "max_target must not exceed max_value");
}

void visit_fields(FieldVisitor& v, TaskConfig& c) {
  v.choice("name", c.name, {"countdown", "jsonl"});
  if (c.name == "countdown") {
    v.group("countdown", c.countdown);
    return;
  }
  v.field("train_files", c.train_files);
  v.field("val_files", c.val_files);
  v.field("demonstration_files", c.demonstration_files);
  v.choice("row_format", c.row_format, {"verl", "gsm8k"});
  v.field("chat_template", c.chat_template);
  v.field("bos_token", c.bos_token);
  v.field("instruction", c.instruction);
  v.field("max_train_rows", c.max_train_rows, kNotNegative);
  v.field("max_val_rows", c.max_val_rows, kNotNegative);
  v.require(!c.train_files.empty(), "train_files must name at least one file");
}

TaskData load_task(const TaskConfig& config, const std::filesystem::path& directory,
                   uint64_t seed) {
  if (config.name == "countdown") return make_countdown(config.countdown, seed);
  check(config.name == "jsonl", "task.name is '", config.name, "', expected countdown or jsonl");
  return read_jsonl_task(config, directory);
}

}  // namespace moerl
