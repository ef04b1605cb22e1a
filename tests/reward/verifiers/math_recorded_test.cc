// Answers of public data sets and of other projects' tests, where they are on this machine.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "common/json.h"
#include "reward/extraction/answer_extraction.h"
#include "reward/math/equivalence.h"
#include "reward/verifiers/math.h"
#include "testing/paths.h"

namespace moerl::reward {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
const fs::path kData = fs::path(MOERL_SOURCE_DIR) / "../shared/data";

std::vector<json> rows(const fs::path& path) {
  std::ifstream in(path);
  std::vector<json> all;
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) all.push_back(parse_json(line));
  return all;
}

Verdict judge(const std::string& response, const std::string& gold, const char* extraction) {
  return MathVerifier().score({response, gold, "", "", ""}, {{"extraction", extraction}}, {});
}

/// What the verifier compares with: the last box of a gold, or all of it.
std::string gold_text(const std::string& gold) {
  const auto boxes = extract_answers(gold, Extraction::kBox);
  return boxes.empty() ? gold : boxes.front().text;
}

class MathRecordedTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kData)) GTEST_SKIP() << kData << " is not on this machine";
  }
};

TEST_F(MathRecordedTest, AgreesWithOtherProjectsTests) {
  int num_equal = 0, num_accepted = 0, num_rows = 0;
  for (const json& row : rows(kData / "reward_cases/math_equiv.jsonl")) {
    const bool is_equal = row["equal"], has_policy = row.contains("policy");
    const std::string gold = row["gold"], prediction = row["prediction"];
    const Verdict verdict = judge(prediction, gold, "any");
    const bool is_accepted = verdict.status == VerdictStatus::kCorrect;
    // What was extracted and the gold change places: the verdict stays.
    if (!verdict.extracted.empty() && !is_unscorable(verdict)) {
      const std::string plain = gold_text(gold);
      EXPECT_EQ(math::compare_answers(plain, verdict.extracted).outcome == math::Outcome::kEqual,
                math::compare_answers(verdict.extracted, plain).outcome == math::Outcome::kEqual)
          << row["id"];
    }
    if (has_policy) continue;
    ++num_rows;
    num_equal += is_equal;
    num_accepted += is_equal && is_accepted;
    EXPECT_FALSE(!is_equal && is_accepted) << "false accept: " << row["id"];
  }
  EXPECT_GE(num_rows, 150);
  EXPECT_GE(num_accepted, 0.98 * num_equal) << num_accepted << " of " << num_equal;
}

TEST_F(MathRecordedTest, EveryGoldEqualsItself) {
  std::vector<std::string> golds;
  auto add = [&](const char* file) {
    for (const json& row : rows(kData / file)) {
      const json& answer = row["answer"];
      std::string text = answer.is_string() ? answer.get<std::string>() : answer.dump();
      const size_t mark = text.find("####");
      golds.push_back(mark == std::string::npos ? text : text.substr(mark + 4));
    }
  };
  for (const char* file :
       {"math/math500_test.jsonl", "gsm8k/gsm8k_test.jsonl", "gsm8k/gsm8k_train.jsonl",
        "aime/aime2024_test.jsonl", "aime/aime2025_test.jsonl", "aime/amc2023_test.jsonl",
        "agieval/math.jsonl", "agieval/gaokao-mathcloze.jsonl"})
    add(file);
  for (const json& row : parse_json(read_file(kData / "math/math_train_rllm.json")))
    if (row["answer"].is_string() && row["answer"] != "") golds.push_back(row["answer"]);
  EXPECT_GE(golds.size(), 17'000u);
  for (const std::string& gold : golds) {
    const Verdict verdict = judge("\\boxed{" + gold + " }", gold, "box_or_marker");
    EXPECT_EQ(verdict.status, VerdictStatus::kCorrect) << gold << ": " << verdict.detail;
  }
}

TEST_F(MathRecordedTest, ReadsLatexAsOtherParsersDo) {
  int num_values = 0, num_agreed = 0;
  for (const json& row : rows(kData / "reward_cases/latex_parse.jsonl")) {
    if (!row["value"].is_string() || row["value"] == "oo" || row["value"] == "-oo") continue;
    ++num_values;
    num_agreed += judge(row["latex"], row["value"], "none").status == VerdictStatus::kCorrect;
  }
  EXPECT_GE(num_values, 100);
  // What is left are greatest common divisors of symbols and of irrational numbers.
  EXPECT_GE(num_agreed, 0.8 * num_values) << num_agreed << " of " << num_values;
}

}  // namespace
}  // namespace moerl::reward
