// The files of lm-evaluation-harness 0.4 (EvaluationTracker), as its zeno and wandb scripts and its
// result readers expect them.
#include <algorithm>

#include "common/json.h"
#include "common/sha256.h"
#include "experiments/evaluation/export/export.h"

namespace moerl::eval {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

/// The standard error that a normal interval of the same width has.
double standard_error(const Estimate& e) { return (e.interval.high - e.interval.low) / 2 / 1.96; }

Json generation_arguments(const SuiteSettings& s) {
  return {{"until", Json::array()},
          {"do_sample", s.temperature > 0},
          {"temperature", s.temperature},
          {"top_p", s.top_p},
          {"max_gen_toks", s.max_tokens}};
}

std::string sample_lines(const TaskRecords& task) {
  std::string lines;
  for (size_t i = 0; i < task.problems.size(); ++i) {
    const ProblemRecord& p = *task.problems[i];
    Json responses = Json::array(), answers = Json::array();
    double correct = 0;
    for (const EvalRecord* r : task.samples[i]) {
      responses.push_back(r->response);
      answers.push_back(r->extracted);
      correct += r->is_correct();
    }
    const Json doc = {{"id", p.id}, {"question", p.prompt}, {"answer", p.ground_truth}};
    lines += dump({{"doc_id", p.problem},
                   {"doc", doc},
                   {"target", p.ground_truth},
                   {"arguments",
                    {{"gen_args_0",
                      {{"arg_0", p.prompt}, {"arg_1", generation_arguments(*task.settings)}}}}},
                   {"resps", Json::array({responses})},
                   {"filtered_resps", answers},
                   {"filter", "none"},
                   {"metrics", Json::array({"exact_match"})},
                   {"doc_hash", sha256(dump(doc))},
                   {"prompt_hash", sha256(p.prompt)},
                   {"target_hash", sha256(p.ground_truth)},
                   {"exact_match", correct / static_cast<double>(task.samples[i].size())}}) +
             "\n";
  }
  return lines;
}

}  // namespace

ExportFiles to_lm_eval(const ReportInput& evaluation, const std::string& time) {
  const EvalSettings& settings = evaluation.settings;
  std::string stamp = time + ".000000";
  std::replace(stamp.begin(), stamp.end(), ':', '-');
  Json results = Json::object(), subtasks = Json::object(), configs = Json::object();
  Json versions = Json::object(), shots = Json::object(), higher = Json::object();
  Json counts = Json::object(), hashes = Json::object();
  ExportFiles files;
  for (const TaskRecords& task : task_records(evaluation)) {
    const std::string name = "moerl_" + task.settings->suite;
    Json figures = {{"alias", name}};
    for (const Estimate& e : task.summary->estimates) {
      const std::string metric = &e == &task.summary->accuracy() ? "exact_match" : e.name;
      figures[metric + ",none"] = e.value;
      figures[metric + "_stderr,none"] = standard_error(e);
      higher[name][metric] = true;
    }
    results[name] = figures;
    subtasks[name] = Json::array();
    configs[name] = {{"task", name},
                     {"dataset_path", task.settings->suite},
                     {"output_type", "generate_until"},
                     {"num_fewshot", 0},
                     {"repeats", task.settings->n},
                     {"generation_kwargs", generation_arguments(*task.settings)},
                     {"metric_list", Json::array({{{"metric", "exact_match"}}})},
                     {"metadata",
                      {{"version", 1},
                       {"verifier", task.settings->verifier},
                       {"data_sha256", task.settings->data_sha256}}}};
    versions[name] = 1;
    shots[name] = 0;
    counts[name] = {{"original", task.settings->num_problems},
                    {"effective", task.settings->num_problems}};
    hashes[name] = sha256(sample_lines(task));
    files.emplace_back("samples_" + name + "_" + stamp + ".jsonl", sample_lines(task));
  }
  const Json json = {
      {"results", results},
      {"group_subtasks", subtasks},
      {"configs", configs},
      {"versions", versions},
      {"n-shot", shots},
      {"higher_is_better", higher},
      {"n-samples", counts},
      {"config",
       {{"model", "moerl"},
        {"model_args", {{"pretrained", settings.model}, {"weights_hash", settings.weights_hash}}},
        {"batch_size", nullptr},
        {"limit", nullptr},
        {"bootstrap_iters", 10'000},
        {"gen_kwargs", nullptr},
        {"random_seed", settings.seed}}},
      {"git_hash", nullptr},
      {"date", nullptr},
      {"model_source", "moerl"},
      {"model_name", settings.model},
      {"model_name_sanitized", "moerl"},
      {"system_instruction", nullptr},
      {"chat_template", settings.chat_template},
      {"task_hashes", hashes},
      {"start_time", nullptr},
      {"total_evaluation_time_seconds", nullptr}};
  files.emplace_back("results_" + stamp + ".json", dump(json, 2));
  return files;
}

}  // namespace moerl::eval
