#include "experiments/sample_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "common/json.h"
#include "experiments/thinking_printer.h"
#include "tests/experiments/temporary_directory.h"
#include "tests/experiments/tiny_directory.h"

namespace moerl::testing {
namespace {

using nlohmann::json;

class SampleRowsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_directory(ctx, root.path() / "model");
    model = open_model(ctx, root.path() / "model", {.dtype = "f32"});
  }
  TextSampler sampler(int64_t max_num_seqs = 64) {
    return {ctx,
            model,
            chat,
            {.sampling = {.temperature = 1, .max_tokens = 24},
             .seed = 3,
             .kv_cache_gb = 0.01,
             .max_num_seqs = max_num_seqs}};
  }
  std::string sample(const std::string& rows, int64_t n, int64_t max_num_seqs = 64,
                     const std::string& system = {}) {
    std::istringstream in(rows);
    std::ostringstream out;
    TextSampler s = sampler(max_num_seqs);
    sample_rows(model, chat, system, s, n, in, "rows.jsonl", out, stop);
    return out.str();
  }

  ExecContext ctx{2};
  TemporaryDirectory root;
  OpenedModel model;
  policy::ChatTemplate chat = policy::ChatTemplate::named("none");
  std::atomic<bool> stop = false;
};

TEST_F(SampleRowsTest, GivesTheTokensOfARollout) {
  const std::string rows = "{\"prompt\": \"Hi\", \"id\": 4}\n{\"prompt\": \"Ho, ho\"}\n";
  const std::string text = sample(rows, 3);
  // The engine, asked directly.
  Engine engine(*model.transformer, {.num_kv_blocks = 64, .max_num_seqs = 16}, ctx);
  GenerateRequest request;
  request.seed = 3;
  request.group_size = 3;
  request.sampling = {.temperature = 1, .max_tokens = 24, .stop_token_ids = {1}};
  for (uint64_t i = 0; i < 2; ++i)
    request.prompts.push_back(
        {.prompt_id = i, .token_ids = model.tokenizer->tokenizer.encode(i == 0 ? "Hi" : "Ho, ho")});
  std::map<std::pair<uint64_t, int64_t>, Completion> expected;
  engine.submit(request, {.on_completion =
                              [&](Completion c) {
                                expected.emplace(std::pair(c.prompt_id, c.sample_index), c);
                              },
                          .on_done = [](std::exception_ptr) {}});
  while (engine.step()) {
  }
  std::istringstream in(text);
  uint64_t number = 0;
  for (std::string line; std::getline(in, line); ++number) {
    const json row = parse_json(line);
    const Completion& c = expected.at({number / 3, static_cast<int64_t>(number % 3)});
    EXPECT_EQ(row.at("sample_index"), number % 3);
    EXPECT_EQ(row.at("token_ids"), c.token_ids);
    EXPECT_EQ(row.at("response"), model.tokenizer->tokenizer.decode(c.token_ids, true));
    EXPECT_EQ(row.at("finish_reason"), c.finish_reason == FinishReason::kStop ? "stop" : "length");
    ASSERT_EQ(row.at("log_probs").size(), c.log_probs.size());
    for (size_t i = 0; i < c.log_probs.size(); ++i)
      EXPECT_EQ(row.at("log_probs")[i].get<double>(), double{c.log_probs[i]});
    EXPECT_EQ(row.at("prompt"), number < 3 ? "Hi" : "Ho, ho");
    EXPECT_EQ(row.contains("id"), number < 3);
  }
  EXPECT_EQ(number, 6u);
  EXPECT_EQ(sample(rows, 3, 1), text);  // one at a time: the same, in the same order
}

TEST_F(SampleRowsTest, StreamsTheTextThatItReturns) {
  std::map<int64_t, std::string> streamed, whole;
  TextSampler s = sampler();
  s.run(
      {{70, 80}}, 4, 0,
      [&](size_t, int64_t i, std::string_view piece) {
        streamed[i] += piece;
        EXPECT_NO_THROW(json(std::string(piece)).dump()) << "a cut character";
      },
      [&](size_t, int64_t i, SampledText text) { whole[i] = text.text; }, stop);
  EXPECT_EQ(whole.size(), 4u);
  EXPECT_EQ(streamed, whole);
  EXPECT_GT(s.num_tokens(), 20);
  EXPECT_GT(s.seconds(), 0);
}

TEST_F(SampleRowsTest, StoppingKeepsWhatThereIs) {
  TextSampler s = sampler();
  std::vector<SampledText> samples;
  int pieces = 0;
  s.run(
      {{70, 80}}, 1, 0, [&](size_t, int64_t, std::string_view) { stop = ++pieces == 3; },
      [&](size_t, int64_t, SampledText text) { samples.push_back(std::move(text)); }, stop);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_FALSE(samples[0].is_finished);
  EXPECT_LT(samples[0].token_ids.size(), 24u);
  EXPECT_FALSE(samples[0].text.empty());
}

TEST_F(SampleRowsTest, TurnEndsOfTheTemplateStopToo) {
  const std::string tokenizer_json =
      policy::build_tokenizer_json({.tokens = {}, .special_tokens = {kBos, kEos, "<|im_end|>"}});
  write_tiny_directory(ctx, root.path() / "chat", tokenizer_json);
  model = open_model(ctx, root.path() / "chat", {.dtype = "f32"});
  ASSERT_EQ(model.tokenizer->stop_token_ids, std::vector<int32_t>{1});
  const auto count_ends = [&](const char* name) {
    chat = policy::ChatTemplate::named(name);
    int ended = 0, passed_over = 0;
    TextSampler s = sampler();
    s.run(
        {{70, 80}}, 64, 0, {},
        [&](size_t, int64_t, SampledText text) {
          const std::vector<int32_t>& ids = text.token_ids;
          const auto at = std::find(ids.begin(), ids.end(), 2);
          if (at == ids.end()) return;
          (at + 1 == ids.end() && text.is_finished ? ended : passed_over) += 1;
        },
        stop);
    return std::pair(ended, passed_over);
  };
  EXPECT_GT(count_ends("qwen2_5").first, 0);
  EXPECT_EQ(count_ends("qwen2_5").second, 0);
  EXPECT_GT(count_ends("none").second, 0);
}

TEST_F(SampleRowsTest, AModelWithoutAnEndIsRefused) {
  model.tokenizer->stop_token_ids.clear();
  EXPECT_NE(error_of<ConfigError>([&] { sampler(); }).find("eos_token_id"), std::string::npos);
}

TEST_F(SampleRowsTest, RefusesTheWholeFileForItsBadRows) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"{}", "neither of prompt and messages"},
      {"{\"prompt\": \"a\", \"messages\": []}", "both of prompt and messages"},
      {"{\"prompt\": 4}", "prompt is 4, expected text or a list"},
      {"{\"messages\": []}", "messages is []"},
      {"{\"messages\": [{\"role\": \"user\"}]}", "message 0 is"},
      {"{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}", "role 'tool'"},
      {"{\"prompt\": \"\"}", "0 tokens, expected 1 to 255"},
      {"{\"prompt\": \"" + std::string(256, 'a') + "\"}", "256 tokens, expected 1 to 255"},
  };
  std::string rows;
  for (const auto& [row, message] : bad) rows += "{\"prompt\": \"a\"}\n" + row + "\n";
  const std::string error = error_of<IoError>([&] { sample(rows, 1); });
  size_t number = 0;
  for (const auto& [row, message] : bad) {
    const size_t at = error.find("rows.jsonl:" + std::to_string(number += 2) + ": ");
    ASSERT_NE(at, std::string::npos) << error;
    EXPECT_NE(error.substr(at, error.find('\n', at) - at).find(message), std::string::npos)
        << message << " in: " << error;
  }
}

TEST_F(SampleRowsTest, DialoguesGoThroughTheTemplate) {
  chat = policy::ChatTemplate::named("llama3", "<s>");
  const auto ids = encode_chat(*model.tokenizer, chat, "Be brief.", {{"user", "Hi"}});
  EXPECT_EQ(model.tokenizer->tokenizer.decode(ids),
            chat.render({{{"system", "Be brief."}, {"user", "Hi"}}}, true));
  EXPECT_EQ(ids[0], 0);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 1);
}

std::string printed(bool is_terminal, bool starts_inside, const std::vector<std::string>& pieces) {
  std::ostringstream out;
  ThinkingPrinter printer(out, is_terminal, starts_inside);
  for (const std::string& piece : pieces) printer.push(piece);
  printer.finish();
  return out.str();
}

TEST(ThinkingPrinterTest, DimsThoughtsOnATerminalAndKeepsTagsElsewhere) {
  const std::vector<std::string> pieces = {"a<thi", "nk>b<", "/", "think>c <", "d"};
  EXPECT_EQ(printed(false, false, pieces), "a<think>b</think>c <d");
  EXPECT_EQ(printed(true, false, pieces), "a\x1b[2m<think>b</think>\x1b[0mc <d");
  EXPECT_EQ(printed(false, true, {"b</think>c"}), "<think>\nb</think>c");
  EXPECT_EQ(printed(true, true, {"b"}), "\x1b[2m<think>\nb\x1b[0m");
  EXPECT_EQ(printed(true, false, {"\x1b[2Jx\ty\n"}), "\uFFFD[2Jx\ty\n");
  EXPECT_EQ(printed(false, false, {"x</think"}), "x</think");
}

}  // namespace
}  // namespace moerl::testing
