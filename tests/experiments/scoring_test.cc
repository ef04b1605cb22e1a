#include "experiments/scoring.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "common/json.h"
#include "rollout/engine.h"
#include "tests/experiments/temporary_directory.h"
#include "tests/experiments/tiny_directory.h"

namespace moerl::testing {
namespace {

using nlohmann::json;

class ScoringTest : public ::testing::TestWithParam<std::string> {
 protected:
  OpenedModel open(const std::string& dtype = "bf16") {
    write_tiny_directory(ctx, root.path() / "model");
    return open_model(ctx, root.path() / "model", {.dtype = dtype});
  }
  std::string score(const OpenedModel& model, const std::string& rows,
                    const ScoringOptions& options = {}) {
    std::istringstream in(rows);
    std::ostringstream out;
    summary = score_rows(ctx, model, options, in, "rows.jsonl", out);
    return out.str();
  }
  static std::vector<json> lines(const std::string& text) {
    std::vector<json> rows;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) rows.push_back(parse_json(line));
    return rows;
  }

  ExecContext ctx{2};
  TemporaryDirectory root;
  ScoringSummary summary;
};

TEST_P(ScoringTest, GivesTheBitsThatTheSamplerRecorded) {
  const OpenedModel model = open(GetParam());
  Engine engine(*model.transformer, {.num_kv_blocks = 64, .max_num_seqs = 8}, ctx);
  GenerateRequest request;
  request.seed = 5;
  request.group_size = 4;
  request.sampling = {.temperature = 0.7, .top_k = 50, .max_tokens = 40};
  request.prompts = {{.prompt_id = 1, .token_ids = {0, 70, 80, 90}},
                     {.prompt_id = 2, .token_ids = {9}}};
  std::vector<Completion> completions;
  engine.submit(request,
                {.on_completion = [&](Completion c) { completions.push_back(std::move(c)); },
                 .on_done = [](std::exception_ptr) {}});
  while (engine.step()) {
  }
  ASSERT_EQ(completions.size(), 8u);
  std::string rows;
  for (const Completion& c : completions) {
    std::vector<int32_t> ids = request.prompts[c.prompt_id - 1].token_ids;
    ids.insert(ids.end(), c.token_ids.begin(), c.token_ids.end());
    rows += json{{"token_ids", ids}}.dump() + "\n";
  }
  const std::vector<json> scored = lines(score(model, rows, {.temperature = 0.7}));
  ASSERT_EQ(scored.size(), completions.size());
  for (size_t i = 0; i < scored.size(); ++i) {
    const std::vector<float>& recorded = completions[i].log_probs;
    const json& log_probs = scored[i].at("log_probs");
    const size_t prompt = log_probs.size() - recorded.size();
    for (size_t t = 0; t < recorded.size(); ++t)
      EXPECT_EQ(log_probs[prompt + t].get<double>(), double{recorded[t]}) << i << " " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ScoringTest, ::testing::Values("bf16", "f32"),
                         [](const auto& info) { return info.param; });

TEST_F(ScoringTest, PrintsEveryRowBackInOrder) {
  const OpenedModel model = open();
  const std::string rows =
      "{\"id\": 7, \"token_ids\": [5, 6, 7], \"log_probs\": \"old\"}\n\n"
      "{\"text\": \"h\\u00e9\", \"note\": [1]}\r\n"
      "{\"token_ids\": [3]}\n";
  const std::string text = score(model, rows, {.entropy = true, .experts = true});
  const std::vector<json> scored = lines(text);
  ASSERT_EQ(scored.size(), 3u);
  EXPECT_TRUE(text.starts_with("{\"id\":7,\"token_ids\":[5,6,7],\"log_probs\":[null,-")) << text;
  EXPECT_EQ(scored[1].at("token_ids"), model.tokenizer->tokenizer.encode("hé"));
  EXPECT_EQ(scored[1].at("note"), json::array({1}));
  double sum = 0;
  for (const json& row : scored) {
    const size_t n = row.at("token_ids").size();
    for (const char* key : {"log_probs", "entropy"}) {
      ASSERT_EQ(row.at(key).size(), n);
      EXPECT_TRUE(row.at(key)[0].is_null());
    }
    ASSERT_EQ(row.at("experts").size(), n);
    EXPECT_EQ(row.at("experts")[0].size(), 2u);
    EXPECT_EQ(row.at("experts")[0][0].size(), 3u);
    for (size_t i = 1; i < n; ++i) {
      EXPECT_LT(row.at("log_probs")[i].get<double>(), 0);
      EXPECT_GT(row.at("entropy")[i].get<double>(), 0);
      sum += row.at("log_probs")[i].get<double>();
    }
  }
  EXPECT_EQ(summary.num_rows, 3);
  EXPECT_EQ(summary.num_tokens, 7);
  EXPECT_EQ(summary.num_log_probs, 4);
  EXPECT_NEAR(summary.sum_log_probs, sum, 1e-9);
  const std::string line = to_string(summary);
  EXPECT_TRUE(line.starts_with("3 rows, 7 tokens, mean log-prob -")) << line;
  EXPECT_NE(line.find("perplexity"), std::string::npos);
  EXPECT_EQ(lines(score(model, rows))[0].count("entropy"), 0u);

  for (int64_t max_tokens : {1, 4, 5})
    EXPECT_EQ(score(model, rows, {.max_tokens = max_tokens, .entropy = true, .experts = true}),
              text);
  EXPECT_EQ(score(model, ""), "");
}

TEST_F(ScoringTest, RefusesTheWholeFileForItsBadRows) {
  const OpenedModel model = open();
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"{", "not JSON"},
      {"[1]", "expected a JSON object"},
      {"{\"a\": 1}", "neither of token_ids and text"},
      {"{\"text\": \"a\", \"token_ids\": [1]}", "both of token_ids and text"},
      {"{\"token_ids\": 1}", "token_ids is 1, expected a list"},
      {"{\"token_ids\": []}", "0 tokens"},
      {"{\"text\": \"\"}", "0 tokens"},
      {"{\"text\": 4}", "text is 4, expected a string"},
      {"{\"token_ids\": [1, -1]}", "token_ids[1] is -1, expected an id of 0 to 257"},
      {"{\"token_ids\": [258]}", "token_ids[0] is 258, expected an id of 0 to 257"},
      {"{\"token_ids\": [1.5]}", "token_ids[0] is 1.5"},
      {"{\"token_ids\": [4294967297]}", "4294967297"},
      {"{\"text\": \"" + std::string(257, 'a') + "\"}",
       "257 tokens, expected at most the model's 256"},
  };
  std::string rows;
  for (const auto& [row, message] : bad) rows += "{\"token_ids\": [1]}\n" + row + "\n";
  std::istringstream in(rows);
  std::ostringstream out;
  const std::string error =
      error_of<IoError>([&] { score_rows(ctx, model, {}, in, "rows.jsonl", out); });
  EXPECT_TRUE(error.starts_with("13 rows cannot be used:\n")) << error;
  size_t number = 0;
  for (const auto& [row, message] : bad) {
    const size_t at = error.find("rows.jsonl:" + std::to_string(number += 2) + ": ");
    ASSERT_NE(at, std::string::npos) << error;
    EXPECT_NE(error.substr(at, error.find('\n', at) - at).find(message), std::string::npos)
        << error;
  }
  EXPECT_TRUE(out.str().empty());
}

TEST_F(ScoringTest, TextGetsTheTokenizersFrameUnlessItIsBare) {
  write_tiny_directory(ctx, root.path() / "model");
  root.write("model/tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<s>"})");
  const OpenedModel model = open_model(ctx, root.path() / "model");
  const std::string row = "{\"text\": \"ab\"}\n";
  EXPECT_EQ(lines(score(model, row))[0].at("token_ids").size(), 3u);
  EXPECT_EQ(lines(score(model, row))[0].at("token_ids")[0], 0);
  EXPECT_EQ(lines(score(model, row, {.bare_text = true}))[0].at("token_ids").size(), 2u);
}

TEST_F(ScoringTest, AnOutputThatFailsIsAnError) {
  const OpenedModel model = open();
  std::istringstream in("{\"token_ids\": [1, 2]}\n");
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  EXPECT_THROW(score_rows(ctx, model, {}, in, "rows.jsonl", out), IoError);
}

}  // namespace
}  // namespace moerl::testing
