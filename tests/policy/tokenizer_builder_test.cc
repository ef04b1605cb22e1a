#include "policy/tokenizer_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "common/check.h"
#include "common/error.h"
#include "common/json.h"
#include "policy/tokenizer.h"

namespace moerl::policy {
namespace {

TokenizerSpec arithmetic_spec() {
  TokenizerSpec spec;
  for (int i = 0; i < 1000; ++i) spec.tokens.push_back(std::to_string(i));
  for (const char* token : {" + ", " - ", " * ", " / ", " = ", " no", " not", " nothing", "Wait",
                            " wait", "answer", "\n", ", ", "é"})
    spec.tokens.push_back(token);
  spec.special_tokens = {"<bos>", "<eos>", "<pad>"};
  spec.added_tokens = {"<think>", "</think>"};
  spec.split_regex = R"(\p{N}{1,3}| [-+*/=] |, | ?\p{L}+|\n| ?[^\s\p{L}\p{N}]+|\s+)";
  return spec;
}

TEST(TokenizerBuilderTest, EveryWantedTokenIsOneToken) {
  const TokenizerSpec spec = arithmetic_spec();
  const Tokenizer tokenizer = Tokenizer::from_json(build_tokenizer_json(spec));
  for (const std::string& token : spec.tokens)
    EXPECT_EQ(tokenizer.encode(token), std::vector<int32_t>{tokenizer.token_id(token).value()});
  EXPECT_EQ(tokenizer.encode("12 + 345 = 357").size(), 5u);
  EXPECT_EQ(tokenizer.encode("<bos>7 * 8 no<eos>").size(), 6u);
}

TEST(TokenizerBuilderTest, LaysIdsOutAndSharesBeginnings) {
  const TokenizerSpec spec = arithmetic_spec();
  const Tokenizer tokenizer = Tokenizer::from_json(build_tokenizer_json(spec));
  EXPECT_EQ(tokenizer.token_id("<bos>"), 0);
  EXPECT_EQ(tokenizer.token_id("<pad>"), 2);
  EXPECT_EQ(tokenizer.token_id("!"), 3);
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_EQ(tokenizer.token_id("</think>"), tokenizer.vocab_size() - 1);
  EXPECT_FALSE(tokenizer.is_special(static_cast<int32_t>(tokenizer.vocab_size()) - 1));
  // 3 special, 256 bytes, 990 numbers of two or three digits, 2 added, and 38 for the words:
  // 5 operators of 2 steps, " no" 2, " not" 1, " nothing" 4, "Wait" 3, " wait" 4, "answer" 5,
  // ", " 1, "é" 1; the steps " +" and so on are counted.
  EXPECT_EQ(tokenizer.vocab_size(), 3 + 256 + 990 + 2 + (5 * 2 + 2 + 1 + 4 + 3 + 4 + 5 + 1 + 1));
}

TEST(TokenizerBuilderTest, OverlappingTokensDoNotDisturbEachOther) {
  // Short alphabets make the greedy merges of one token cut into the next.
  std::mt19937 random(17);
  for (int round = 0; round < 20; ++round) {
    TokenizerSpec spec;
    for (int i = 0; i < 60; ++i) {
      std::string token;
      for (int n = 1 + static_cast<int>(random() % 9); n > 0; --n)
        token += static_cast<char>('a' + random() % 2);
      spec.tokens.push_back(token);
    }
    const Tokenizer tokenizer = Tokenizer::from_json(build_tokenizer_json(spec));
    for (const std::string& token : spec.tokens)
      ASSERT_EQ(tokenizer.encode(token), std::vector<int32_t>{tokenizer.token_id(token).value()});
  }
}

TEST(TokenizerBuilderTest, TheSameSpecGivesTheSameText) {
  EXPECT_EQ(build_tokenizer_json(arithmetic_spec()), build_tokenizer_json(arithmetic_spec()));
}

std::string refusal(const TokenizerSpec& spec) {
  try {
    build_tokenizer_json(spec);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(TokenizerBuilderTest, RefusesTokensThatCannotBeOne) {
  TokenizerSpec spec;
  spec.tokens = {"1234"};
  EXPECT_THAT(refusal(spec), testing::HasSubstr("cuts '1234' into '123', '4'"));
  spec.tokens = {""};
  EXPECT_THAT(refusal(spec), testing::HasSubstr("a token is empty"));
  spec.tokens = {"\xFF"};
  EXPECT_THAT(refusal(spec), testing::HasSubstr("not UTF-8"));
  spec.tokens = {"word"};
  spec.added_tokens = {"or"};
  EXPECT_THAT(refusal(spec), testing::HasSubstr("'word' becomes 3 tokens"));
  spec.added_tokens = {"<s>"};
  spec.special_tokens = {"<s>"};
  EXPECT_THAT(refusal(spec), testing::HasSubstr("'<s>' is an added token twice"));
  spec.added_tokens = {};
  spec.special_tokens = {"a"};
  EXPECT_THAT(refusal(spec), testing::HasSubstr("special token 'a'"));
  spec.special_tokens = {};
  spec.split_regex = "(";
  EXPECT_THROW(build_tokenizer_json(spec), ConfigError);
}

}  // namespace
}  // namespace moerl::policy
