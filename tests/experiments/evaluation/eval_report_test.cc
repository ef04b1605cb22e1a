#include "experiments/evaluation/report/eval_report.h"

#include <gtest/gtest.h>

#include "common/json.h"
#include "experiments/evaluation/export/export.h"
#include "tests/experiments/evaluation/evaluation_records.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::eval {
namespace {

using moerl::testing::TemporaryDirectory;
using testing::problem_of;
using testing::record_of;

constexpr const char* kAttack =
    "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>";

/// An evaluation of two problems with two samples each; the first answers with `answer`.
ReportInput evaluation_with(const std::string& answer) {
  ReportInput input;
  input.settings.model = "/models/" + answer;
  input.settings.weights_hash = "00ff";
  SuiteSettings suite;
  suite.suite = "s";
  suite.verifier = "exact_match";
  suite.n = 2;
  suite.num_problems = 2;
  input.settings.suites = {suite};
  input.files.problems = {problem_of(0), problem_of(1)};
  input.files.problems[0].prompt = "Is it " + answer + "?";
  input.files.records = {record_of(0, 0, answer), record_of(0, 1, "good"), record_of(1, 0, "bad"),
                         record_of(1, 1, "")};
  input.files.config_json = to_json(input.settings);
  input.summaries = {summarize(input.files.records, {})};
  return input;
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}
nlohmann::json data_of(const std::string& html) {
  const std::string mark = "id=\"data\">";
  const size_t begin = html.find(mark) + mark.size();
  return parse_json(html.substr(begin, html.find("</script>", begin) - begin));
}

TEST(EvalReportTest, TextOfAModelCannotBecomeMarkup) {
  TemporaryDirectory folder;
  write_eval_report(folder.path() / "report.html", {evaluation_with(kAttack)});
  const std::string html = folder.read("report.html");
  EXPECT_EQ(count(html, "<script"), 2u);  // the data and the page's own
  EXPECT_EQ(count(html, "</script>"), 2u);
  EXPECT_EQ(count(html, "<img"), 0u);
  EXPECT_EQ(count(html, "<!--"), 0u);
  EXPECT_EQ(count(html, "innerHTML"), 0u);
  const auto data = data_of(html);
  EXPECT_EQ(data.at("problems")[0].at("samples")[0][0].at("answer"), kAttack);
  EXPECT_EQ(data.at("problems")[0].at("samples")[0][0].at("thinking"), "<think>wait</think>");
  EXPECT_EQ(html.find("http://"), html.find("http://www.w3.org/2000/svg"));  // loads nothing
}

TEST(EvalReportTest, TwoEvaluationsStandSideBySide) {
  TemporaryDirectory folder;
  const ReportInput a = evaluation_with("bad"), b = evaluation_with("good");
  write_eval_report(folder.path() / "report.html", {a, b}, compare(a.files, b.files));
  const auto data = data_of(folder.read("report.html"));
  EXPECT_EQ(data.at("runs").size(), 2u);
  EXPECT_EQ(data.at("problems").size(), 2u);
  EXPECT_EQ(data.at("problems")[0].at("samples")[0][0].at("good"), false);
  EXPECT_EQ(data.at("problems")[0].at("samples")[1][0].at("good"), true);
  EXPECT_EQ(data.at("comparison")[0].at("difference"), 0.25);
  EXPECT_THROW(write_eval_report(folder.path() / "x.html", {a, b, a}), std::invalid_argument);
}

TEST(ResultsTest, SettingsReadBackAsTheyWere) {
  const EvalSettings settings = evaluation_with("x").settings;
  EXPECT_EQ(to_json(settings_from_json(to_json(settings), "eval.json")), to_json(settings));
  EXPECT_THROW(settings_from_json("{}", "eval.json"), IoError);
}

TEST(ExportTest, EveryFormatHoldsTheFiguresAndTheSamples) {
  const ReportInput input = evaluation_with("good");
  const std::string time = "2026-01-31T12:00:00";
  const auto lm_eval = to_lm_eval(input, time);
  ASSERT_EQ(lm_eval.size(), 2u);
  const auto results = parse_json(lm_eval[1].second);
  EXPECT_EQ(results.at("results").at("moerl_s").at("exact_match,none"), 0.5);
  EXPECT_EQ(count(lm_eval[0].second, "\n"), 2u);  // a line a problem
  EXPECT_EQ(lm_eval[0].first, "samples_moerl_s_2026-01-31T12-00-00.000000.jsonl");

  const auto lighteval = parse_json(to_lighteval(input, time)[0].second);
  EXPECT_EQ(lighteval.at("results").at("moerl_s|0").at("pass@1[avg-of-2]"), 0.5);

  const auto log = parse_json(to_inspect(input, time)[0].second);
  EXPECT_EQ(log.at("samples").size(), 4u);
  EXPECT_EQ(log.at("samples")[1].at("epoch"), 2);
  EXPECT_EQ(log.at("samples")[3].at("scores").at("moerl").at("value"), "I");
  EXPECT_EQ(log.at("results").at("scores")[0].at("metrics").at("pass@2").at("value"), 0.5);
  EXPECT_THROW(export_evaluation(input, "csv", "/nowhere"), std::invalid_argument);
}

}  // namespace
}  // namespace moerl::eval
