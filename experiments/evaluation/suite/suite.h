#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/config.h"
#include "experiments/tasks/task.h"
#include "reward/sample.h"

namespace moerl::eval {

/// The file that a suite's problems come from.
struct SuiteSource {
  std::string file;     ///< name in the data cache, or a path relative to the suite's own file
  std::string sha256;   ///< of the file as it is published; empty: not checked
  std::string url;      ///< where `moerl data get` has it from; https or http
  std::string license;  ///< for people
  std::string format = "jsonl";  ///< jsonl; csv; task: the held-out rows of `task`. .gz is unpacked
  std::string members;  ///< of a .zip: names to read, * for any text, such as data/test/*_test.csv
  std::vector<std::string> columns;     ///< of csv files without a header
  int64_t first_row = 0, num_rows = 0;  ///< a part of the rows; num_rows 0: to the end
};

/// How a row becomes a problem. Values are templates: {name} is the row's field of that name; a
/// list of texts is written as lines, null as nothing, what else is no text as JSON. `_row` is the
/// number of the row and `_member` the zip member's name without folder and ending.
struct SuiteRows {
  std::string layout =
      "fields";  ///< fields: as below; verl: rows of experiments/tasks/jsonl_rows.h
  std::string id = "{_row}";
  std::string group;  ///< a part of the suite with figures of its own, such as a subject
  std::string question;
  std::string ground_truth;
  std::string ground_truth_after;  ///< only what follows its last occurrence, such as ####
  // multiple choice; the ground truth is then the letter of the right choice
  std::vector<std::string> choices;  ///< one template each; or
  std::string choices_field;         ///< the field with a list; a leading "(A)" is taken off
  int64_t shuffle_seed = 0;          ///< of the order of the choices; 0: as in the file
  std::map<std::string, std::string> extra_info;  ///< for the verifier; {name} alone keeps its type
};

/// How completions are drawn unless the command line says otherwise.
struct SuiteSampling {
  double temperature = 0.6, top_p = 0.95;
  int64_t max_tokens = 32'768;
};

/// An evaluation: problems, how they are put to the model, how answers are judged. One YAML file.
struct Suite {
  std::string name, description;
  SuiteSource source;
  TaskConfig task;  ///< of format task
  SuiteRows rows;
  std::string prompt = "plain";  ///< preset of prompt_presets.h
  std::string user;              ///< template around {question}, in place of the preset's
  std::string system;            ///< system text; empty: none
  std::string verifier;
  reward::Options options;  ///< of the verifier
  SuiteSampling sampling;
  int64_t n = 1;                    ///< samples a problem
  bool consensus = true;            ///< whether cons@k means anything for these answers
  std::filesystem::path directory;  ///< of its file; empty for built-in ones; not a field
};

void visit_fields(FieldVisitor& v, Suite& c);

/// Names of the suites that come with moerl, sorted.
std::vector<std::string> suite_names();

/// @param argument  a name of suite_names(), or the path of a YAML file.
/// @throws ConfigError naming the known suites, or every violation of the file; IoError.
Suite load_suite(const std::string& argument);

}  // namespace moerl::eval
