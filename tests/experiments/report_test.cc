#include "experiments/report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/experiments/markup.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::testing {
namespace {

class ReportTest : public ::testing::Test {
 protected:
  ReportTest() {
    recipe_.name = "a <b> & c";
    recipe_.model.config = "config.json";
    recipe_.stages.resize(2);
    recipe_.stages[0] = {.name = "cold-start", .type = "sft"};
    recipe_.stages[1] = {.name = "rl", .type = "grpo"};
    const std::string acc = "val-core/countdown/acc/mean@4";
    history_ = {
        {0, "initial", {{acc, 0.0125}}},
        {1, "cold-start", {{"train/loss", 2.5}}},
        {2, "cold-start", {{"train/loss", 1.5}, {acc, 0.25}}},
        {3, "rl", {{"critic/rewards/mean", 0.5}, {"actor/grad_norm", std::nan("")}, {acc, 0.3}}},
        {4, "rl", {{"critic/rewards/mean", 0.75}, {acc, 0.625}}}};
  }
  SampleRecord sample(int64_t step, const std::string& stage, const std::string& response,
                      const std::string& status) {
    SampleRecord r;
    r.step = step;
    r.stage = stage;
    r.split = "val";
    r.prompt = "Numbers: <1 & 2>";
    r.response = response;
    r.status = status;
    r.token_ids = {1, 2, 3};
    return r;
  }
  std::string html(SampleStore* samples) {
    write_report(directory_.path(), recipe_, history_, samples);
    return directory_.read("report.html");
  }
  TemporaryDirectory directory_;
  Recipe recipe_;
  std::vector<StepMetrics> history_;
};

TEST_F(ReportTest, EscapesWhatHtmlWouldRead) {
  EXPECT_EQ(escape_html("<a href=\"x\">&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(escape_html("ä 1 + 2"), "ä 1 + 2");
}

TEST_F(ReportTest, TableHasTheAccuracyBeforeTrainingAndAtTheEndOfEveryStage) {
  const std::string table = results_table(recipe_, history_);
  const size_t before = table.find("1.2 %"), sft = table.find("25.0 %"), rl = table.find("62.5 %");
  ASSERT_TRUE(before != std::string::npos && sft != std::string::npos && rl != std::string::npos)
      << table;
  EXPECT_TRUE(before < sft && sft < rl);
  EXPECT_EQ(table.find("30.0 %"), std::string::npos);  // in the middle of a stage
  EXPECT_NE(table.find("val-core/countdown/acc/mean@4"), std::string::npos);
}

TEST_F(ReportTest, IsOneFileWithResultsCurvesAndRecipe) {
  const std::string text = html(nullptr);
  for (const char* part :
       {"25.0 %", "62.5 %", "held-out accuracy", "(train/loss)", "(critic/rewards/mean)",
        "a &lt;b&gt; &amp; c", "total_training_steps: 100", "No samples were stored"})
    EXPECT_NE(text.find(part), std::string::npos) << part;
  EXPECT_EQ(text.find("<b>"), std::string::npos);
  EXPECT_EQ(text.find("(actor/grad_norm)"), std::string::npos);  // nothing finite to show
  EXPECT_EQ(count_of(text, "<svg"), 3);
  for (const char* outside :
       {"http:", "https:", "//cdn", "<script", "<link", "<img", "src=", "@import", "url("})
    EXPECT_EQ(text.find(outside), std::string::npos) << outside;
  const size_t begin = text.find("<div class='charts'>");
  ASSERT_NE(begin, std::string::npos);
  EXPECT_EQ(xml_error(text.substr(begin, text.find("<h2>Samples") - begin)), "");
}

TEST_F(ReportTest, ShowsTheSameProblemBeforeAndAfter) {
  SampleStore store(directory_.path() / "samples.sqlite", -1);
  store.add(std::vector<SampleRecord>{sample(2, "cold-start", "<old> answer", "incorrect"),
                                      sample(3, "rl", "middle answer", "incorrect"),
                                      sample(4, "rl", "new & better", "correct")});
  const std::string text = html(&store);
  const size_t old_at = text.find("&lt;old&gt; answer"), new_at = text.find("new &amp; better");
  ASSERT_NE(old_at, std::string::npos);
  ASSERT_NE(new_at, std::string::npos);
  EXPECT_LT(old_at, new_at);
  EXPECT_EQ(text.find("middle answer"), std::string::npos);
  EXPECT_NE(text.find("Numbers: &lt;1 &amp; 2&gt;"), std::string::npos);
  EXPECT_NE(text.find("class='correct'"), std::string::npos);
}

}  // namespace
}  // namespace moerl::testing
