#include "common/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace moerl {
namespace {

std::string refusal(const std::string& text) {
  try {
    check_json("x.json", text);
  } catch (const IoError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(JsonTest, AcceptsWhatIsJson) {
  for (const char* text : {"{}", "[1, -2, 3.5e7, null, true, \"\\u00e9\"]",
                           " {\"a\": {\"a\": [{}]}} ", "[{\"a\": 1}, {\"a\": 2}]", "7"})
    EXPECT_EQ(refusal(text), "accepted") << text;
}

TEST(JsonTest, RefusesBadSyntaxByName) {
  for (const char* text : {"", "{", "{\"a\"}", "[1,]", "{} x", "\"\xFF\"", "nul", "1e999"})
    EXPECT_THAT(refusal(text), ::testing::StartsWith("x.json: not JSON: ")) << text;
}

TEST(JsonTest, RefusesAKeyTwiceInOneObject) {
  EXPECT_EQ(refusal("{\"a\": {\"b\": 1, \"c\": [], \"b\": 2}}"),
            "x.json: the key 'b' is there twice, expected once");
}

TEST(JsonTest, RefusesWhatIsNestedTooDeeply) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(refusal(nested(64)), "accepted");
  EXPECT_THAT(refusal(nested(65)), ::testing::HasSubstr("nested deeper than 64"));
  EXPECT_THAT(refusal(std::string(10'000'000, '[')), ::testing::HasSubstr("nested deeper"));
}

}  // namespace
}  // namespace moerl
