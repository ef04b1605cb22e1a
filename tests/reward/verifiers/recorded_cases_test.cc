#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/json.h"
#include "reward/verifier_registry.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

using nlohmann::json;
constexpr char kPath[] = "/work/shared/data/reward_cases/format_cases.jsonl";

/// Answer-checking cases of other projects' own tests.
class RecordedCasesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kPath)) GTEST_SKIP() << kPath << " is not on this machine";
  }

  static std::vector<json> rows(const std::string& kind) {
    std::ifstream in(kPath);
    std::vector<json> rows;
    for (std::string line; std::getline(in, line);)
      if (json row = parse_json(line); row["kind"] == kind) rows.push_back(std::move(row));
    return rows;
  }
  static Verdict judge(const std::string& verifier, const std::string& response,
                       const std::string& gold, const Options& options) {
    return make_verifier_registry()->get(verifier)->score({response, gold, "", "", ""}, options,
                                                          {});
  }
};

TEST_F(RecordedCasesTest, FormatRulesAgree) {
  const std::map<std::string, std::string> rules = {
      {"think_answer_strict_newlines", "think_answer_strict"},
      {"think_only (single <think>..</think> at start, then text)", "think_only"},
      {"exactly one <think> block followed by non-empty text", "think_then_text"}};
  int num_checked = 0;
  for (const json& row : rows("format")) {
    const auto rule = rules.find(row["params"]["rule"]);
    if (rule == rules.end()) continue;
    EXPECT_EQ(judge("format", row["input"], "", {{"rule", rule->second}}).score, row["expected"])
        << row["id"];
    ++num_checked;
  }
  EXPECT_GE(num_checked, 8);
}

/// A response that stands in `input` itself or as its `completion`.
std::string response_of(const json& row) {
  const json& input = row["input"];
  return input.is_string() ? input.get<std::string>() : input.value("completion", "");
}
std::string number_text(double x) {
  std::ostringstream out;
  out << x;
  return out.str();
}

TEST_F(RecordedCasesTest, ShapeRewardsAgree) {
  for (const char* kind : {"tag_count", "reasoning_steps"})
    for (const json& row : rows(kind))
      EXPECT_NEAR(judge(kind, response_of(row), "", {}).score, row["expected"].get<double>(), 1e-3)
          << row["id"];
  for (const json& row : rows("think_graded")) {
    const json& params = row["params"];
    EXPECT_EQ(judge("format", response_of(row), "",
                    {{"rule", "think_graded"},
                     {"full_reward", number_text(params["full_reward"])},
                     {"partial_reward", number_text(params["partial_reward"])}})
                  .score,
              row["expected"])
        << row["id"];
  }
}

TEST_F(RecordedCasesTest, CodeFormatAgrees) {
  for (const json& row : rows("code_format"))
    EXPECT_EQ(
        judge("code_format", row["input"], "", {{"language", row["params"]["language"]}}).score,
        row["expected"])
        << row["id"];
}

TEST_F(RecordedCasesTest, RepetitionAgrees) {
  for (const char* kind : {"repetition_penalty", "repetition_penalty_ids"}) {
    for (const json& row : rows(kind)) {
      const json& params = row["params"];
      const bool by_ids = row["input"].is_array();
      Sample sample;
      if (by_ids)
        sample.token_ids = row["input"].get<std::vector<int32_t>>();
      else
        sample.response = row["input"];
      const Verdict verdict = make_verifier_registry()
                                  ->get("repetition")
                                  ->score(sample,
                                          {{"ngram_size", number_text(params["ngram_size"])},
                                           {"max_penalty", number_text(params["max_penalty"])},
                                           {"unit", by_ids ? "token_ids" : "words"}},
                                          {});
      EXPECT_NEAR(verdict.score, row["expected"].get<double>(), 1e-4) << row["id"];
    }
  }
}

TEST_F(RecordedCasesTest, CosineAgrees) {
  for (const json& row : rows("cosine_scaled")) {
    const json& input = row["input"];
    Options options;
    for (const auto& [name, value] : row["params"].items())
      if (value.is_number() && name != "abs_tol") options[name] = number_text(value);
    Sample sample{.num_tokens = input["length"], .is_correct = input.value("correct", true)};
    const Verdict verdict = make_verifier_registry()->get("cosine")->score(sample, options, {});
    EXPECT_NEAR(verdict.score, row["expected"].get<double>(), 1e-3) << row["id"];
  }
}

TEST_F(RecordedCasesTest, LanguagesAgree) {
  for (const json& row : rows("language_binary"))
    EXPECT_EQ(judge("language_consistency", row["input"], "",
                    {{"target_language", row["params"]["target_language"]}})
                  .score,
              row["expected"])
        << row["id"];
}

TEST_F(RecordedCasesTest, QuestionAnsweringAgrees) {
  const auto gold = [](const json& row) {
    const json& value = row["input"]["gold"];
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  for (const json& row : rows("token_f1"))
    EXPECT_NEAR(judge("qa", response_of(row), gold(row), {{"metric", "f1"}}).score,
                row["expected"].get<double>(), 1e-3)
        << row["id"];
  for (const json& row : rows("qa_em_f1"))
    EXPECT_NEAR(judge("qa", response_of(row), gold(row), {{"metric", "em_or_f1"}}).score,
                row["expected"].get<double>(), 1e-3)
        << row["id"];
}

TEST_F(RecordedCasesTest, CountdownAgrees) {
  for (const json& row : rows("countdown")) {
    const json& input = row["input"];
    const json gold = {{"numbers", input["numbers"]}, {"target", input["target"]}};
    const std::string answer = "<answer>" + input["answer"].get<std::string>() + "</answer>";
    EXPECT_EQ(judge("countdown", answer, gold.dump(), {}).parts.at("accuracy"),
              row["expected"] == 1.0 ? 1 : 0)
        << row["id"];
  }
}

TEST_F(RecordedCasesTest, AnswerTagNumbersAgree) {
  for (const json& row : rows("answer_tag_numeric")) {
    const std::string response = row["input"]["completion"];
    // That peer takes the first answer, this project the last.
    if (count_occurrences(response, "<answer>") > 1) continue;
    char tolerance[32];
    snprintf(tolerance, sizeof tolerance, "%.9f", row["params"]["tolerance"].get<double>());
    const Verdict verdict = judge("gsm8k", response, row["input"]["gold"],
                                  {{"method", "answer_tag"}, {"tolerance", tolerance}});
    // Partial credit is for a gold number anywhere in the text; here that is no credit.
    EXPECT_EQ(verdict.score, row["expected"] == 1.0 ? 1 : 0) << row["id"] << verdict.detail;
  }
}

TEST_F(RecordedCasesTest, TextWithoutAnswerTagHasNoAnswer) {
  for (const json& row : rows("answer_tag"))
    EXPECT_EQ(last_answer(row["input"].get<std::string>()).has_value(), !row["expected"].is_null())
        << row["id"];
}

TEST_F(RecordedCasesTest, ExactTextAgrees) {
  const Options options = {{"extraction", "answer_tag_or_text"},
                           {"casefold", "true"},
                           {"squeeze_space", "true"},
                           {"drop_punctuation", "true"},
                           {"drop_articles", "true"}};
  for (const json& row : rows("text_exact"))
    EXPECT_EQ(judge("exact_match", row["input"]["completion"], row["input"]["gold"], options).score,
              row["expected"])
        << row["id"];
}

}  // namespace
}  // namespace moerl::reward
