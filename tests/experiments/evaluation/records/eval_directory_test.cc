#include "experiments/evaluation/records/eval_directory.h"

#include <gtest/gtest.h>

#include "tests/experiments/evaluation/evaluation_records.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::eval {
namespace {

using moerl::testing::error_of;
using moerl::testing::TemporaryDirectory;
using testing::problem_of;
using testing::record_of;

const std::vector<ProblemRecord> kProblems = {problem_of(0, "b"), problem_of(1, "b"),
                                              problem_of(0, "a")};
const std::string kConfig = R"({"seed": 1, "suites": [{"n": 2}]})";

/// All records, in canonical order: suites as in kProblems.
std::vector<EvalRecord> all_records() {
  return {record_of(0, 0, "good", "b"), record_of(0, 1, "bad", "b"),  record_of(1, 0, "", "b"),
          record_of(1, 1, "x\ny", "b"), record_of(0, 0, "good", "a"), record_of(0, 1, "é", "a")};
}

TEST(EvalRecordTest, LinesReadBackAsTheyWere) {
  EvalRecord r = record_of(3, 1, "a \"quoted\"\n</script> é");
  r.parts = {{"accuracy", 1}, {"format", 0.1}};
  r.score = 1.0 / 3;
  r.finish_reason = FinishReason::kLength;
  r.detail = "why";
  EXPECT_EQ(record_from_json(to_json_line(r), "x:1"), r);
  EXPECT_EQ(to_json_line(r).find('\n'), std::string::npos);
  ProblemRecord p = problem_of(2);
  p.extra_info_json = R"({"a":[1,2]})";
  EXPECT_EQ(problem_from_json(to_json_line(p), "x:1"), p);
  EXPECT_NE(error_of<IoError>([] { record_from_json("{}", "file:7"); }).find("file:7"),
            std::string::npos);
  EXPECT_THROW(record_from_json("not json", "file:7"), IoError);
}

TEST(EvalDirectoryTest, AnyOrderAndAnyInterruptionEndInTheSameFile) {
  const auto records = all_records();
  TemporaryDirectory whole, cut;
  {
    EvalDirectory directory(whole.path() / "e", kConfig, kProblems);
    for (const EvalRecord& r : records) directory.append(r);
    directory.complete(6);
  }
  {
    EvalDirectory directory(cut.path() / "e", kConfig, kProblems);
    for (size_t i : {5u, 0u, 3u}) directory.append(records[i]);
  }
  // The process died while it wrote the fourth.
  std::ofstream(cut.path() / "e/samples.partial.jsonl", std::ios::app)
      << to_json_line(records[1]).substr(0, 40);
  EXPECT_NE(error_of<IoError>([&] { EvalDirectory::read(cut.path() / "e"); }).find("again"),
            std::string::npos);
  {
    EvalDirectory directory(cut.path() / "e", kConfig, kProblems);
    EXPECT_EQ(directory.num_recorded(), 3);
    EXPECT_TRUE(directory.has(key_of(records[3])));
    EXPECT_FALSE(directory.has(key_of(records[1])));
    for (const EvalRecord& r : records) directory.append(r);  // what is there is not added again
    directory.complete(6);
  }
  EXPECT_EQ(cut.read("e/samples.jsonl"), whole.read("e/samples.jsonl"));
  EXPECT_EQ(EvalDirectory::read(cut.path() / "e").records, records);
  EXPECT_EQ(EvalDirectory::read(cut.path() / "e").problems, kProblems);
  EXPECT_FALSE(std::filesystem::exists(cut.path() / "e/samples.partial.jsonl"));
  EvalDirectory again(cut.path() / "e", kConfig, kProblems);
  EXPECT_EQ(again.num_recorded(), 6);
  again.complete(6);
}

TEST(EvalDirectoryTest, MissingSamplesDoNotPassAsComplete) {
  TemporaryDirectory folder;
  EvalDirectory directory(folder.path(), kConfig, kProblems);
  directory.append(all_records()[0]);
  EXPECT_THROW(directory.complete(6), std::logic_error);
}

TEST(EvalDirectoryTest, AnotherEvaluationIsRefusedByName) {
  TemporaryDirectory folder;
  // One that ended before its first sample is replaced.
  { EvalDirectory directory(folder.path(), R"({"seed": 7})", kProblems); }
  {
    EvalDirectory directory(folder.path(), kConfig, kProblems);
    directory.append(all_records()[0]);
  }
  EXPECT_EQ(folder.read("eval.json"), kConfig);
  const std::string error = error_of<ConfigError>([&] {
    EvalDirectory directory(folder.path(), R"({"seed": 1, "suites": [{"n": 4}]})", kProblems);
  });
  for (const char* part : {"suites.0.n", "2", "4", "--output"})
    EXPECT_NE(error.find(part), std::string::npos) << error;
}

TEST(EvalDirectoryTest, OneProcessAtATime) {
  TemporaryDirectory folder;
  EvalDirectory directory(folder.path(), kConfig, kProblems);
  EXPECT_NE(error_of<IoError>([&] {
              EvalDirectory second(folder.path(), kConfig, kProblems);
            }).find("another process"),
            std::string::npos);
}

}  // namespace
}  // namespace moerl::eval
