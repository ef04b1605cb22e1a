// Tokenizers with the settings of the published families against Hugging Face `tokenizers`, written
// by tests/golden/tokenizer_families.py (which also compares 100,000 lines, outside of the suite).
#include <gtest/gtest.h>

#include "common/file.h"
#include "common/json.h"
#include "policy/tokenizer.h"
#include "testing/paths.h"

namespace moerl::policy {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

const Json& golden() {
  static const Json json = parse_json(read_file(std::filesystem::path(MOERL_SOURCE_DIR) /
                                                "tests/golden/tokenizer_families_golden.json"));
  return json;
}

TEST(TokenizerFamiliesTest, EncodeAndDecodeAsTokenizersDoes) {
  ASSERT_EQ(golden()["families"].size(), 5u);
  for (const Json& family : golden()["families"]) {
    const std::string name = family["name"];
    const Tokenizer tokenizer = Tokenizer::from_json(family["tokenizer"].dump(), name);
    ASSERT_GT(family["cases"].size(), 60u);
    for (const Json& c : family["cases"]) {
      const std::string text = c[0];
      const Ids ids = c[1];
      EXPECT_EQ(tokenizer.encode(text), ids) << name << ": " << c[0].dump();
      EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/true), c[2]) << name << ": " << c[0].dump();
    }
  }
}

TEST(TokenizerFamiliesTest, FrameIsWhatThePostProcessorAdds) {
  for (const Json& family : golden()["families"]) {
    const Tokenizer tokenizer = Tokenizer::from_json(family["tokenizer"].dump());
    Ids framed = tokenizer.frame().prefix;
    for (int32_t id : tokenizer.encode("x")) framed.push_back(id);
    for (int32_t id : tokenizer.frame().suffix) framed.push_back(id);
    EXPECT_EQ(framed, family["framed"].get<Ids>()) << family["name"];
  }
}

TEST(TokenizerFamiliesTest, FramesThatMakeNoSenseAreRefused) {
  Json root = golden()["families"][0]["tokenizer"];  // llama3: ByteLevel, then BOS in front
  const auto error = [&] {
    try {
      Tokenizer::from_json(root.dump(), "t.json");
    } catch (const std::runtime_error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  Json& post = root["post_processor"]["processors"][1];
  const Json good = post;
  const auto expect = [&](const std::string& part) {
    EXPECT_NE(error().find(part), std::string::npos) << part << " in: " << error();
    post = good;
  };
  EXPECT_EQ(error(), "");
  post["single"].push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  expect("the text twice");
  post["single"].erase(1);
  expect("with the text in it");
  post["single"][0] = "x";
  expect("single[0]");
  post["special_tokens"] = Json::object();
  expect("special_tokens.<|begin_of_text|> is missing");
  post["special_tokens"]["<|begin_of_text|>"]["ids"] = {100000};
  expect("adds id 100000");
  post["type"] = "BertProcessing";
  expect("BertProcessing");
}

}  // namespace
}  // namespace moerl::policy
