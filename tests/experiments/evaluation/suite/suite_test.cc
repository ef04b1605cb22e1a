#include "experiments/evaluation/suite/suite.h"

#include <gtest/gtest.h>

#include "common/file.h"
#include "common/json.h"
#include "common/sha256.h"
#include "experiments/evaluation/suite/data_cache.h"
#include "experiments/evaluation/suite/data_rows.h"
#include "experiments/evaluation/suite/suite_rows.h"
#include "reward/verifier_registry.h"
#include "testing/paths.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::eval {
namespace {

using moerl::testing::error_of;
using moerl::testing::TemporaryDirectory;

const policy::ChatTemplate kNoTemplate = policy::ChatTemplate::named("none");

Suite suite_from(const std::string& yaml) {
  Suite suite;
  ConfigSource("test", yaml).read(suite);
  return suite;
}
constexpr const char* kMinimal = R"(
name: small
source: {file: rows.jsonl}
rows: {question: "{q}", ground_truth: "{a}"}
verifier: gsm8k
)";

TEST(SuiteTest, EveryBuiltInSuiteNamesAVerifierAndOptionsThatExist) {
  const auto registry = reward::make_verifier_registry();
  ASSERT_GE(suite_names().size(), 17u);
  for (const std::string& name : suite_names()) {
    const Suite suite = load_suite(name);
    EXPECT_EQ(suite.name, name);
    EXPECT_FALSE(suite.description.empty()) << name;
    try {
      registry->get(suite.verifier)->check_options(suite.options);
    } catch (const FailedPrecondition&) {
      EXPECT_EQ(suite.verifier, "code") << "only it needs something of the machine";
    }
    if (suite.source.format == "task") continue;
    EXPECT_EQ(suite.source.sha256.size(), 64u) << name;
    EXPECT_FALSE(suite.source.url.empty()) << name;
  }
}

TEST(SuiteTest, WhatIsWrongIsNamed) {
  EXPECT_NE(error_of<ConfigError>([] { load_suite("nosuch"); }).find("gsm8k"), std::string::npos);
  const auto error = [](const std::string& more) {
    return error_of<ConfigError>([&] { suite_from(std::string(kMinimal) + more); });
  };
  EXPECT_EQ(error(""), "");
  EXPECT_NE(error("colour: blue\n").find("colour"), std::string::npos);
  EXPECT_NE(error("n: 0\n").find("n"), std::string::npos);
  EXPECT_NE(error("prompt: shout\n").find("boxed"), std::string::npos);
  EXPECT_NE(error("user: no place\n").find("{question}"), std::string::npos);
  EXPECT_NE(error_of<ConfigError>([] { suite_from("name: x\nverifier: v\n"); }).find("file"),
            std::string::npos);
}

std::vector<Problem> problems_from(const Suite& suite, const std::string& name,
                                   const std::string& content, int64_t limit = 0) {
  TemporaryDirectory folder;
  return read_problems(suite, folder.write(name, content), kNoTemplate, limit);
}

TEST(SuiteRowsTest, TemplatesTakeFieldsAndLeaveOtherBraces) {
  Suite suite = suite_from(R"(
name: small
source: {file: rows.jsonl, first_row: 1, num_rows: 2}
rows:
  id: "{key}-{_row}"
  group: "{level}"
  question: "{passage}\n{q}"
  ground_truth: "{a}"
  ground_truth_after: "####"
  extra_info: {tests: "{tests}", note: "n={level}"}
user: "Solve {question} in \\boxed{}, {1}"
verifier: gsm8k
)");
  const auto problems = problems_from(
      suite, "rows.jsonl",
      "{\"q\":1}\n"
      R"({"key":"k","level":3,"passage":null,"q":"2+2?","a":"4 #### 3 #### 4 ","tests":[1,{"x":2}]})"
      "\n\n"
      R"({"key":"k","level":"b","passage":"P","q":"q","a":"#### 5","tests":null})"
      "\n{}");
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems[0].id, "k-1");
  EXPECT_EQ(problems[0].group, "3");
  EXPECT_EQ(problems[0].row.prompt, "Solve 2+2? in \\boxed{}, {1}");
  EXPECT_EQ(problems[0].row.ground_truth, "4");
  EXPECT_EQ(parse_json(problems[0].row.extra_info_json),
            parse_json(R"({"tests":[1,{"x":2}],"note":"n=3"})"));
  EXPECT_EQ(problems[1].row.prompt, "Solve P\nq in \\boxed{}, {1}");
}

TEST(SuiteRowsTest, AListOfTextsIsWrittenAsLinesOtherValuesAsJson) {
  const auto problems = problems_from(suite_from(kMinimal), "rows.jsonl",
                                      R"({"q":["assert a","assert b"],"a":[1,"b"]})");
  EXPECT_EQ(problems[0].row.prompt, "assert a\nassert b");
  EXPECT_EQ(problems[0].row.ground_truth, R"([1,"b"])");
}

TEST(SuiteRowsTest, BadRowsAreNamedByFileAndLine) {
  const Suite suite = suite_from(kMinimal);
  const auto error = [&](const std::string& rows) {
    return error_of<IoError>([&] { problems_from(suite, "rows.jsonl", rows); });
  };
  EXPECT_NE(error("{\"q\":\"x\",\"a\":\"1\"}\n[1]\n").find("rows.jsonl:2"), std::string::npos);
  EXPECT_NE(error("{\"q\":\"x\"}\n").find("'a'"), std::string::npos);
  EXPECT_NE(error("{\"q\":\"x\",\"a\":\" \"}\n").find("empty"), std::string::npos);
  EXPECT_NE(error("").find("no row"), std::string::npos);
}

constexpr const char* kChoices = R"(
name: choice
source: {file: rows.jsonl}
rows:
  question: "{q}"
  ground_truth: "{label}"
  choices_field: options
  shuffle_seed: SEED
prompt: letter
verifier: gsm8k
)";
Suite choices_suite(int seed) {
  std::string yaml = kChoices;
  return suite_from(yaml.replace(yaml.find("SEED"), 4, std::to_string(seed)));
}
std::string choice_rows(int count) {
  std::string rows;
  for (int i = 0; i < count; ++i)
    rows += R"({"q":"which?","label":"C","options":["(A)one","(B) two","(C)three","four"]})"
            "\n";
  return rows;
}

TEST(SuiteRowsTest, ChoicesKeepTheirOrderOrAreShuffledWithTheTruth) {
  const auto plain = problems_from(choices_suite(0), "rows.jsonl", choice_rows(1));
  EXPECT_EQ(plain[0].row.ground_truth, "C");
  EXPECT_NE(plain[0].row.prompt.find("which?\n\nA) one\nB) two\nC) three\nD) four"),
            std::string::npos)
      << plain[0].row.prompt;
  EXPECT_NE(plain[0].row.prompt.find("one of ABCD"), std::string::npos);

  const auto shuffled = problems_from(choices_suite(5), "rows.jsonl", choice_rows(400));
  std::map<std::string, int> truths;
  for (const Problem& p : shuffled) {
    ++truths[p.row.ground_truth];
    EXPECT_NE(p.row.prompt.find(p.row.ground_truth + ") three"), std::string::npos);
  }
  // Each place about as often: 100 expected, standard deviation 8.7.
  for (const char* place : {"A", "B", "C", "D"}) EXPECT_NEAR(truths[place], 100, 35) << place;
  const auto again = problems_from(choices_suite(5), "rows.jsonl", choice_rows(400));
  for (size_t i = 0; i < again.size(); ++i) EXPECT_EQ(again[i].row.prompt, shuffled[i].row.prompt);
}

TEST(SuiteRowsTest, CsvIsReadAsRfc4180Says) {
  const Suite suite = suite_from(R"(
name: table
source: {file: t.csv, format: csv, columns: [q, a]}
rows: {question: "{q}", ground_truth: "{a}", group: "{_member}"}
verifier: gsm8k
)");
  const auto problems =
      problems_from(suite, "t.csv", "plain,1\r\n\"with, comma and \"\"quotes\"\"\nline\",2\n");
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems[0].row.prompt, "plain");
  EXPECT_EQ(problems[0].group, "t");
  EXPECT_EQ(problems[1].row.prompt, "with, comma and \"quotes\"\nline");
  EXPECT_EQ(problems[1].row.ground_truth, "2");
  EXPECT_NE(error_of<IoError>([&] { problems_from(suite, "t.csv", "a,b\nc\n"); }).find("t.csv:2"),
            std::string::npos);
  EXPECT_NE(error_of<IoError>([&] { problems_from(suite, "t.csv", "a,\"b\n"); }).find("not end"),
            std::string::npos);
}

TEST(DataCacheTest, FilesEnterByHashAndMissingOnesAreExplained) {
  TemporaryDirectory folder;
  Suite suite = suite_from(kMinimal);
  suite.source.url = "https://example.org/rows.jsonl";
  suite.source.sha256 = sha256("right");
  const DataCache cache(folder.path() / "cache");
  const std::string missing = error_of<IoError>([&] { cache.require(suite); });
  for (const char* part : {"example.org", "cache/rows.jsonl", "moerl data get small"})
    EXPECT_NE(missing.find(part), std::string::npos) << missing;
  std::filesystem::create_directories(folder.path() / "from/a");
  std::filesystem::create_directories(folder.path() / "from/b");
  folder.write("from/a/rows.jsonl", "wrong");
  EXPECT_NE(
      error_of<IoError>([&] { cache.add(suite, folder.path() / "from"); }).find(sha256("wrong")),
      std::string::npos);
  folder.write("from/b/rows.jsonl", "right");
  cache.add(suite, folder.path() / "from");
  EXPECT_EQ(read_file(cache.require(suite)), "right");
  folder.write("cache/rows.jsonl", "changed later");
  EXPECT_NE(error_of<IoError>([&] { cache.require(suite); }).find("is not the file"),
            std::string::npos);
}

/// The published files beside the checkout, if they are there.
std::string shared_data() { return std::string(MOERL_SOURCE_DIR) + "/../shared/data"; }

/// How a model that knows the truth would answer the suite's prompt.
std::string golden_response(const Suite& suite, const std::string& truth) {
  if (suite.verifier == "gsm8k") return "<think>easy</think>\n#### " + truth;
  if (suite.verifier == "multiple_choice") return "<think>easy</think>\nAnswer: " + truth;
  return "<think>easy</think>\nIt is \\boxed{" + truth + "}.";
}

TEST(SuiteDataTest, GoldsFedBackAreRightOthersGoldsAndNothingAreWrong) {
  if (!std::filesystem::exists(shared_data())) GTEST_SKIP() << "there is no " << shared_data();
  TemporaryDirectory folder;
  const DataCache cache(folder.path());
  const auto registry = reward::make_verifier_registry();
  for (const std::string& name : suite_names()) {
    const Suite suite = load_suite(name);
    if (suite.source.format == "task" || suite.verifier == "code") continue;
    const auto problems = read_problems(suite, cache.add(suite, shared_data()), kNoTemplate, 0);
    const auto verifier = registry->get(suite.verifier);
    const auto is_right = [&](const Problem& p, const std::string& response) {
      const reward::Verdict verdict = verifier->score(
          {response, p.row.ground_truth, p.row.extra_info_json, p.row.data_source, p.row.prompt},
          suite.options, {});
      EXPECT_FALSE(reward::is_unscorable(verdict)) << name << " " << p.id << " " << verdict.detail;
      return verdict.status == reward::VerdictStatus::kCorrect;
    };
    int64_t golds = 0, neighbours = 0, same_as_neighbour = 0, empty = 0;
    for (size_t i = 0; i < problems.size(); ++i) {
      const std::string& truth = problems[i].row.ground_truth;
      const std::string& next = problems[(i + 1) % problems.size()].row.ground_truth;
      const bool right = is_right(problems[i], golden_response(suite, truth));
      EXPECT_TRUE(right) << name << " " << problems[i].id << ": " << truth;
      golds += right;
      neighbours += is_right(problems[i], golden_response(suite, next));
      same_as_neighbour += truth == next;
      empty += is_right(problems[i], "");
    }
    const auto n = static_cast<int64_t>(problems.size());
    EXPECT_EQ(golds, n) << name;
    EXPECT_EQ(empty, 0) << name;
    // The next problem's answer is right where it happens to be the same (18 and 18.0 included).
    EXPECT_GE(neighbours, same_as_neighbour) << name;
    EXPECT_LE(neighbours, same_as_neighbour + n / 50 + 1) << name;
  }
}

/// Every so many rows of a code suite are tried here.
constexpr size_t kEveryCodeRow = 12;

TEST(SuiteDataTest, PublishedProgramsPassTheirTestsOthersAndNothingDoNot) {
  if (!std::filesystem::exists(shared_data())) GTEST_SKIP() << "there is no " << shared_data();
  TemporaryDirectory folder;
  const DataCache cache(folder.path());
  const auto verifier = reward::make_verifier_registry()->get("code");
  try {
    verifier->check_options({});
  } catch (const FailedPrecondition& error) {
    GTEST_SKIP() << error.what();
  }
  for (const char* name : {"humaneval", "mbpp"}) {
    const Suite suite = load_suite(name);
    const auto file = cache.add(suite, shared_data());
    const auto problems = read_problems(suite, file, kNoTemplate, 0);
    const auto rows = read_data_rows(suite.source, file);
    ASSERT_EQ(rows.size(), problems.size());
    EXPECT_EQ(problems.size(), name == std::string("mbpp") ? 500u : 164u);
    const auto program = [&](size_t i) {
      const nlohmann::json& row = rows[i % rows.size()].fields;
      return row.contains("code") ? row.at("code").get<std::string>()
                                  : row.at("prompt").get<std::string>() +
                                        row.at("canonical_solution").get<std::string>();
    };
    const auto status = [&](size_t i, const std::string& response) {
      const PromptRow& row = problems[i].row;
      return verifier
          ->score({response, row.ground_truth, row.extra_info_json, row.data_source, row.prompt},
                  suite.options, {})
          .status;
    };
    for (size_t i = 0; i < problems.size(); i += kEveryCodeRow) {
      const auto answer = [&](const std::string& code) {
        return "<think>easy</think>\n```python\n" + code + "\n```";
      };
      EXPECT_EQ(status(i, answer(program(i))), reward::VerdictStatus::kCorrect) << problems[i].id;
      EXPECT_EQ(status(i, answer(program(i + 1))), reward::VerdictStatus::kIncorrect)
          << problems[i].id;
      EXPECT_EQ(status(i, ""), reward::VerdictStatus::kNoAnswer) << problems[i].id;
    }
  }
}

}  // namespace
}  // namespace moerl::eval
