#include "experiments/evaluation/suite/suite.h"

#include "common/check.h"
#include "common/file.h"
#include "embedded/suites.h"
#include "experiments/evaluation/suite/prompt_presets.h"

namespace moerl::eval {

static void visit_fields(FieldVisitor& v, SuiteSource& c) {
  v.field("file", c.file);
  v.field("sha256", c.sha256);
  v.field("url", c.url);
  v.field("license", c.license);
  v.choice("format", c.format, {"jsonl", "csv", "task"});
  v.field("members", c.members);
  v.field("columns", c.columns);
  v.field("first_row", c.first_row, kNotNegative);
  v.field("num_rows", c.num_rows, kNotNegative);
  v.require((c.format == "task") == c.file.empty(),
            "file must name the data, unless the format is task");
  v.require(c.sha256.empty() || c.sha256.size() == 64, "sha256 must have 64 hexadecimal digits");
}

static void visit_fields(FieldVisitor& v, SuiteRows& c) {
  v.choice("layout", c.layout, {"fields", "verl"});
  if (c.layout == "verl") return;
  v.field("id", c.id);
  v.field("group", c.group);
  v.field("question", c.question);
  v.field("ground_truth", c.ground_truth);
  v.field("ground_truth_after", c.ground_truth_after);
  v.field("choices", c.choices);
  v.field("choices_field", c.choices_field);
  v.field("shuffle_seed", c.shuffle_seed, kNotNegative);
  v.field("extra_info", c.extra_info);
  v.require(c.choices.empty() || c.choices_field.empty(),
            "choices and choices_field cannot both be given");
}

static void visit_fields(FieldVisitor& v, SuiteSampling& c) {
  v.field("temperature", c.temperature, kNotNegative);
  v.field("top_p", c.top_p, {1e-6, 1});
  v.field("max_tokens", c.max_tokens, kAtLeastOne);
}

void visit_fields(FieldVisitor& v, Suite& c) {
  v.field("name", c.name);
  v.field("description", c.description);
  v.group("source", c.source);
  if (c.source.format == "task") {
    v.group("task", c.task);
  } else {
    v.group("rows", c.rows);
    v.require(c.rows.layout == "verl" || (!c.rows.question.empty() && !c.rows.ground_truth.empty()),
              "rows.question and rows.ground_truth must be given");
  }
  v.choice("prompt", c.prompt, prompt_preset_names());
  v.field("user", c.user);
  v.field("system", c.system);
  v.field("verifier", c.verifier);
  v.field("options", c.options);
  v.group("sampling", c.sampling);
  v.field("n", c.n, kAtLeastOne);
  v.field("consensus", c.consensus);
  v.require(!c.name.empty() && c.name.find_first_of("/ \t\n") == std::string::npos,
            "name must be given, without slashes and spaces");
  v.require(!c.verifier.empty(), "verifier must be given");
  v.require(c.user.empty() || c.user.find("{question}") != std::string::npos,
            "user must contain {question}");
}

std::vector<std::string> suite_names() {
  std::vector<std::string> names;
  for (const embedded::File& file : embedded::suites()) names.emplace_back(file.name);
  return names;
}

Suite load_suite(const std::string& argument) {
  Suite suite;
  if (argument.ends_with(".yaml") || argument.ends_with(".yml")) {
    ConfigSource::from_file(argument).read(suite);
    const std::filesystem::path path = argument;
    suite.directory = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    return suite;
  }
  std::string known;
  for (const embedded::File& file : embedded::suites()) {
    if (file.name == argument) {
      ConfigSource("suite " + argument, file.content).read(suite);
      return suite;
    }
    known += concat(known.empty() ? "" : ", ", file.name);
  }
  throw ConfigError(concat("there is no suite '", argument, "', expected one of ", known,
                           ", or the path of a .yaml file"));
}

}  // namespace moerl::eval
