// EvalLog of inspect_ai, version 2, as read_eval_log reads it.
#include <algorithm>

#include "common/json.h"
#include "experiments/evaluation/export/export.h"
#include "experiments/evaluation/metrics/text_statistics.h"

namespace moerl::eval {
namespace {

using Json = nlohmann::ordered_json;

Json metric(const std::string& name, double value) {
  return {{"name", name}, {"value", value}, {"options", Json::object()}};
}

Json assistant_message(const EvalRecord& r) {
  const SplitResponse split = split_response(r.response, r.thinking_tokens > 0);
  Json content = Json::array();
  if (!split.thinking.empty())
    content.push_back({{"type", "reasoning"}, {"reasoning", std::string(split.thinking)}});
  content.push_back({{"type", "text"}, {"text", std::string(split.answer)}});
  return {{"role", "assistant"}, {"source", "generate"}, {"content", content}};
}

Json sample(const ProblemRecord& p, const EvalRecord& r, const std::string& model) {
  const Json usage = {{"input_tokens", r.prompt_tokens},
                      {"output_tokens", r.response_tokens},
                      {"total_tokens", r.prompt_tokens + r.response_tokens},
                      {"reasoning_tokens", r.thinking_tokens}};
  const Json message = assistant_message(r);
  Json score = {{"value", r.is_correct() ? "C" : "I"},
                {"answer", r.extracted},
                {"explanation", r.detail},
                {"metadata",
                 {{"status", std::string(reward::status_name(r.status))},
                  {"score", r.score},
                  {"parts", r.parts}}}};
  return {{"id", p.id},
          {"epoch", r.sample + 1},
          {"input", p.prompt},
          {"target", p.ground_truth},
          {"messages", Json::array({{{"role", "user"}, {"content", p.prompt}}, message})},
          {"output",
           {{"model", model},
            {"choices", Json::array({{{"message", message},
                                      {"stop_reason", r.is_truncated() ? "max_tokens" : "stop"}}})},
            {"usage", usage}}},
          {"scores", {{"moerl", score}}},
          {"metadata", {{"group", p.group}, {"data_source", p.data_source}}},
          {"store", Json::object()},
          {"events", Json::array()},
          {"model_usage", {{model, usage}}},
          {"attachments", Json::object()}};
}

}  // namespace

ExportFiles to_inspect(const ReportInput& evaluation, const std::string& time) {
  ExportFiles files;
  std::string stamp = time;
  std::replace(stamp.begin(), stamp.end(), ':', '-');
  const std::string model = "moerl/" + evaluation.settings.weights_hash, utc = time + "+00:00";
  for (const TaskRecords& task : task_records(evaluation)) {
    const SuiteSettings& s = *task.settings;
    const std::string name = "moerl_" + s.suite;
    Json metrics = Json::object(), samples = Json::array(), ids = Json::array();
    for (const Estimate& e : task.summary->estimates) {
      metrics[e.name] = metric(e.name, e.value);
      metrics[e.name + "_low"] = metric(e.name + "_low", e.interval.low);
      metrics[e.name + "_high"] = metric(e.name + "_high", e.interval.high);
    }
    for (size_t i = 0; i < task.problems.size(); ++i) {
      ids.push_back(task.problems[i]->id);
      for (const EvalRecord* r : task.samples[i])
        samples.push_back(sample(*task.problems[i], *r, model));
    }
    const int64_t scored = task.summary->num_samples - task.summary->num_unscorable;
    const Json log = {
        {"version", 2},
        {"status", "success"},
        {"eval",
         {{"eval_id", name + "-" + stamp},
          {"run_id", name + "-" + stamp},
          {"created", utc},
          {"task", name},
          {"task_id", name},
          {"task_version", 1},
          {"task_attribs", Json::object()},
          {"task_args", Json::object()},
          {"dataset",
           {{"name", s.suite},
            {"samples", s.num_problems},
            {"sample_ids", ids},
            {"shuffled", false}}},
          {"model", model},
          {"model_generate_config",
           {{"temperature", s.temperature}, {"top_p", s.top_p}, {"max_tokens", s.max_tokens}}},
          {"model_args", {{"path", evaluation.settings.model}}},
          {"config", {{"epochs", s.n}}},
          {"packages", Json::object()},
          {"metadata", {{"verifier", s.verifier}, {"data_sha256", s.data_sha256}}}}},
        {"plan", {{"name", "plan"}, {"steps", Json::array()}, {"config", Json::object()}}},
        {"results",
         {{"total_samples", task.summary->num_samples},
          {"completed_samples", task.summary->num_samples},
          {"scores", Json::array({{{"name", "moerl"},
                                   {"scorer", "moerl"},
                                   {"scored_samples", scored},
                                   {"unscored_samples", task.summary->num_unscorable},
                                   {"params", Json::object()},
                                   {"metrics", metrics}}})}}},
        {"stats", {{"started_at", utc}, {"completed_at", utc}, {"model_usage", Json::object()}}},
        {"samples", samples}};
    files.emplace_back(stamp + "_" + name + ".json",
                       log.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  return files;
}

}  // namespace moerl::eval
