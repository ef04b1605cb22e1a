// The results file of lighteval (EvaluationTracker.save_results).
#include <algorithm>

#include "common/json.h"
#include "experiments/evaluation/export/export.h"

namespace moerl::eval {

ExportFiles to_lighteval(const ReportInput& evaluation, const std::string& time) {
  using Json = nlohmann::ordered_json;
  const EvalSettings& settings = evaluation.settings;
  std::string stamp = time + ".000000";
  std::replace(stamp.begin(), stamp.end(), ':', '-');
  Json results = Json::object(), versions = Json::object(), tasks = Json::object();
  Json all = Json::object(), summary = Json::object();
  for (const TaskRecords& task : task_records(evaluation)) {
    const std::string name = "moerl_" + task.settings->suite + "|0";
    Json figures = Json::object();
    for (const Estimate& e : task.summary->estimates) {
      figures[e.name] = e.value;
      figures[e.name + "_stderr"] = (e.interval.high - e.interval.low) / 2 / 1.96;
    }
    results[name] = figures;
    versions[name] = 1;
    tasks[name] = {{"name", "moerl_" + task.settings->suite},
                   {"hf_repo", ""},
                   {"hf_subset", ""},
                   {"num_fewshots", 0},
                   {"num_samples", Json::array({task.settings->n})},
                   {"generation_size", task.settings->max_tokens},
                   {"original_num_docs", task.settings->num_problems},
                   {"effective_num_docs", task.settings->num_problems}};
    summary[name] = {{"hashes", Json::object()},
                     {"truncated", 0},
                     {"non_truncated", 0},
                     {"padded", 0},
                     {"non_padded", 0}};
    for (const auto& [metric, value] : figures.items())
      if (all.contains(metric)) {
        all[metric] = all[metric].get<double>() + value.get<double>();
      } else {
        all[metric] = value;
      }
  }
  for (auto& [metric, value] : all.items())
    value = value.get<double>() / static_cast<double>(results.size());
  if (results.size() > 1) results["all"] = all;
  const Json json = {{"config_general",
                      {{"lighteval_sha", "moerl"},
                       {"num_fewshot_seeds", 0},
                       {"max_samples", nullptr},
                       {"job_id", 0},
                       {"start_time", 0},
                       {"end_time", 0},
                       {"total_evaluation_time_secondes", "0"},
                       {"model_config", {{"model_name", settings.model}, {"seed", settings.seed}}},
                       {"model_name", settings.model}}},
                     {"results", results},
                     {"versions", versions},
                     {"config_tasks", tasks},
                     {"summary_tasks", summary},
                     {"summary_general", Json::object()}};
  std::string model = settings.model.substr(settings.model.find_first_not_of('/'));
  return {{std::filesystem::path("results") / model / ("results_" + stamp + ".json"),
           json.dump(2, ' ', false, Json::error_handler_t::replace)}};
}

}  // namespace moerl::eval
