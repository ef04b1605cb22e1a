#include <gtest/gtest.h>

#include <filesystem>

#include "common/file.h"
#include "common/json.h"
#include "policy/chat_template.h"
#include "policy/tokenizer.h"
#include "testing/paths.h"

namespace moerl::policy {
namespace {

using Ids = std::vector<int32_t>;
const std::string kData = MOERL_SOURCE_DIR "/../shared/data";

struct Vector {
  std::string text;
  Ids ids;
};

const std::vector<Vector>& vectors() {
  static const std::vector<Vector> list = {
      {"Hello! 毕老师！1 + 1 = 2 ĠÑĤÐ²ÑĬÑĢ",
       {19923, 3,   223,   5464, 5008, 1175,  19,   940,   223, 19,  438,   223, 20,
        6113,  257, 76589, 131,  100,  76032, 1628, 76589, 131, 108, 76589, 131, 98}},
      {"Hello world", {19923, 2058}},
      {" hello world ", {44388, 2058, 223}},
      {"你好世界", {30594, 3427}},
      {"Hello 你好 World 世界!", {19923, 223, 30594, 4495, 223, 3427, 3}},
      {"Hello 🌍 World!", {19923, 73369, 238, 4495, 3}},
      {"1234567890", {6895, 18009, 25744, 18}},
      {"don't stop", {20385, 1664, 6409}},
      {"x = 3.14159\n\n    return y;\n",
       {90, 438, 223, 21, 16, 9926, 3318, 271, 361, 1354, 383, 510}},
      {"I'm 42 years old; it's 3.5% better!!\n",
       {43, 4571, 223, 3180, 1737, 3072, 29, 436, 734, 223, 21, 16, 23, 7, 2993, 85479}},
      {"for (int i = 0; i < n; ++i) {\n    sum += a[i];\n}\n",
       {2251,  343, 650, 1008, 438, 223,  18,   29,  1008, 818,  313, 29,
        16571, 75,  11,  875,  361, 2595, 7004, 260, 3166, 4274, 1778}},
      {"カタカナ漢字ひらがな", {15961, 11767, 15961, 27071, 29069, 2024, 40259, 4970, 2936, 2942}},
      {"Привет, мир!", {24797, 8919, 14, 74779, 3}},
      {"a  b   c", {67, 223, 291, 262, 274}},
      {"a\r\n\r\nb", {67, 204, 201, 204, 201, 68}},
      {"   \n\t x", {14320, 200, 1527}},
      {"\t\ttabs", {200, 17299, 10284}},
      {"\\boxed{42}", {62, 7353, 284, 93, 3180, 95}},
      {"naïve café — “quote”…", {2720, 91223, 57664, 2136, 811, 54016, 430, 1248}},
  };
  return list;
}

/// Each is one case, as loading takes longer than what is asserted.
class DeepSeekTokenizerTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string path = kData + "/deepseek/" + GetParam();
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
    tokenizer_ = Tokenizer::from_file(path);
  }
  std::optional<Tokenizer> tokenizer_;
};

TEST_P(DeepSeekTokenizerTest, GivesThePublishedVectorsAndIds) {
  for (const Vector& vector : vectors()) {
    EXPECT_EQ(tokenizer_->encode(vector.text), vector.ids) << vector.text;
    EXPECT_EQ(tokenizer_->decode(vector.ids), vector.text);
  }
  EXPECT_EQ(tokenizer_->vocab_size(), 128815);
  EXPECT_EQ(tokenizer_->token_id("!"), 3);
  EXPECT_EQ(tokenizer_->token_id(" "), 223);
  EXPECT_EQ(tokenizer_->token_id("\n\n"), 271);
  EXPECT_EQ(tokenizer_->token_id("<｜end▁of▁sentence｜>"), 1);
  EXPECT_EQ(tokenizer_->token_id("<｜Assistant｜>"), 128804);
  EXPECT_TRUE(tokenizer_->is_special(1));
  EXPECT_FALSE(tokenizer_->is_special(128804));
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    ASSERT_TRUE(tokenizer_->has_token(id));
    ASSERT_EQ(tokenizer_->token_id(tokenizer_->token_bytes(id)), id);
  }
  const ChatTemplate chat = ChatTemplate::named("deepseek_v3");
  EXPECT_EQ(tokenizer_->encode(chat.render({{{"user", "What is 1+1?"}}}, true)),
            (Ids{0, 128803, 3085, 344, 223, 19, 13, 19, 33, 128804}));
}

TEST_P(DeepSeekTokenizerTest, DecodesWhatItEncodesOnRealText) {
  for (const char* name : {"gsm8k/gsm8k_test.jsonl", "agieval/gaokao-mathqa.jsonl",
                           "math/math500_test.jsonl", "code/mbpp.jsonl"}) {
    const std::string path = kData + "/" + name;
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
    const std::string text = read_file(path);
    const Ids ids = tokenizer_->encode(text);
    EXPECT_EQ(tokenizer_->decode(ids), text) << name;
    EXPECT_LT(ids.size(), text.size() / 2) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Flavours, DeepSeekTokenizerTest,
                         testing::Values("tokenizer_v3.json", "tokenizer_r1.json"),
                         [](const auto& info) { return std::string(info.param).substr(10, 2); });

TEST(DeepSeekR1TokenizerTest, ThinkTagsAreTokensAndAnswerTagsAreNot) {
  const std::string path = kData + "/deepseek/tokenizer_r1.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
  const Tokenizer tokenizer = Tokenizer::from_file(path);
  const ChatTemplate chat = ChatTemplate::named("deepseek_r1");
  EXPECT_EQ(tokenizer.encode(chat.render({{{"user", "What is 1+1?"}}}, true)),
            (Ids{0, 128803, 3085, 344, 223, 19, 13, 19, 33, 128804, 128798, 201}));
  EXPECT_EQ(tokenizer.encode("<answer>"), (Ids{30, 19995, 32}));
  EXPECT_EQ(tokenizer.encode("</answer>"), (Ids{1718, 19995, 32}));
  EXPECT_EQ(tokenizer.encode("</think>"), (Ids{128799}));
  EXPECT_GT(tokenizer.encode("<｜end▁of▁sentence｜>", false).size(), 1u);
}

}  // namespace
}  // namespace moerl::policy
