#include "experiments/evaluation/report/eval_report.h"

#include <map>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "embedded/report_page.h"
#include "experiments/evaluation/metrics/text_statistics.h"

namespace moerl::eval {
namespace {

using Json = nlohmann::ordered_json;

std::string_view page_file(std::string_view name) {
  for (const embedded::File& file : embedded::report_page())
    if (file.name == name) return file.content;
  check_internal(false, "the report page lacks ", name);
  return {};
}

/// JSON inside a script element: nothing in it can end the element or open a comment.
std::string script_safe(const Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string safe;
  for (char c : text) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  return safe;
}

Json sample_json(const EvalRecord& r) {
  const SplitResponse split = split_response(r.response, r.thinking_tokens > 0);
  return {{"sample", r.sample},
          {"good", r.is_correct()},
          {"status", std::string(reward::status_name(r.status))},
          {"score", r.score},
          {"tokens", r.response_tokens},
          {"thinking_tokens", r.thinking_tokens},
          {"cut", r.is_truncated()},
          {"thinking", std::string(split.thinking)},
          {"answer", std::string(split.answer)},
          {"extracted", r.extracted},
          {"detail", r.detail}};
}

/// How many samples of each problem are shown, and a note if that is not all.
std::pair<int64_t, std::string> shown_samples(const std::vector<ReportInput>& inputs) {
  size_t bytes = 0;
  int64_t n = 0;
  for (const ReportInput& input : inputs)
    for (const EvalRecord& r : input.files.records) {
      bytes += r.response.size() + 200;
      n = std::max(n, r.sample + 1);
    }
  if (bytes <= kMaxReportBytes) return {n, ""};
  const int64_t shown = std::max<int64_t>(
      1,
      static_cast<int64_t>(static_cast<double>(n) * kMaxReportBytes / static_cast<double>(bytes)));
  return {shown, concat("Of each problem the first ", shown, " of ", n,
                        " samples are shown; the table counts all, samples.jsonl has all.")};
}

}  // namespace

void write_eval_report(const std::filesystem::path& path, const std::vector<ReportInput>& inputs,
                       const std::vector<SuiteComparison>& comparisons) {
  check(!inputs.empty() && inputs.size() <= 2, "a report of ", inputs.size(),
        " evaluations, expected 1 or 2");
  const auto [shown, note] = shown_samples(inputs);
  Json data = {{"note", note},
               {"runs", Json::array()},
               {"comparison", parse_json<Json>(to_json(comparisons))},
               {"problems", Json::array()}};
  std::map<std::pair<std::string, std::string>, size_t> index;
  for (size_t run = 0; run < inputs.size(); ++run) {
    data["runs"].push_back(
        parse_json<Json>(results_json(inputs[run].settings, inputs[run].summaries)));
    for (const ProblemRecord& p : inputs[run].files.problems) {
      const auto [found, is_new] = index.emplace(std::pair(p.suite, p.id), index.size());
      if (!is_new) continue;
      Json samples = Json::array();
      for (size_t i = 0; i < inputs.size(); ++i) samples.push_back(Json::array());
      data["problems"].push_back({{"suite", p.suite},
                                  {"id", p.id},
                                  {"prompt", p.prompt},
                                  {"truth", p.ground_truth},
                                  {"samples", samples}});
    }
    for (const EvalRecord& r : inputs[run].files.records)
      if (r.sample < shown)
        data["problems"][index.at({r.suite, r.id})]["samples"][run].push_back(sample_json(r));
  }
  const std::map<std::string, std::string> parts = {
      {"@style@", std::string(page_file("style.css"))},
      {"@script@", std::string(page_file("script.js"))},
      {"@data@", script_safe(data)}};
  const std::string_view page = page_file("page.html");
  std::string html;
  for (size_t at = 0; at < page.size();) {
    size_t next = page.size();
    const std::string* value = nullptr;
    size_t mark_size = 0;
    for (const auto& [mark, text] : parts)
      if (const size_t found = page.find(mark, at); found < next) {
        next = found;
        value = &text;
        mark_size = mark.size();
      }
    html += page.substr(at, next - at);
    if (value != nullptr) html += *value;
    at = next + mark_size;
  }
  write_file_atomic(path, html);
}

}  // namespace moerl::eval
