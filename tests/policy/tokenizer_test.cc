#include "policy/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "policy/tokenizer/byte_pair_encoder.h"
#include "policy/tokenizer/utf8.h"
#include "testing/paths.h"

namespace moerl::policy {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

const Json& golden() {
  static const Json root =
      parse_json(read_file(MOERL_SOURCE_DIR "/tests/golden/tokenizer_golden.json"));
  return root;
}

/// The base tokenizer of the golden file with some top-level parts replaced.
Json patched(const Json& patch) {
  Json root = golden()["base"];
  for (const auto& [key, value] : patch.items()) {
    if (key == "model")
      root["model"].update(value);
    else
      root[key] = value;
  }
  return root;
}

Tokenizer make_tokenizer(const Json& patch = Json::object()) {
  return Tokenizer::from_json(patched(patch).dump());
}

template <typename Error>
std::string refusal(const Json& root) {
  try {
    Tokenizer::from_json(root.dump(), "t.json");
  } catch (const Error& error) {
    return error.what();
  } catch (const std::exception& error) {
    return concat("another type of error: ", error.what());
  }
  return "accepted";
}

TEST(TokenizerTest, AgreesWithHuggingFaceOnEveryVariant) {
  for (const Json& variant : golden()["variants"]) {
    const Tokenizer tokenizer = make_tokenizer(variant["patch"]);
    for (const Json& item : variant["cases"]) {
      SCOPED_TRACE(concat(variant["name"], " on ", item[0]));
      const std::string text = item[0];
      const Ids ids = tokenizer.encode(text);
      ASSERT_EQ(ids, item[1].get<Ids>());
      ASSERT_EQ(tokenizer.encode(text, false), item[2].get<Ids>());
      ASSERT_EQ(tokenizer.decode(ids), item[3].get<std::string>());
      const auto tail = ids.empty() ? std::span<const int32_t>() : std::span(ids).subspan(1);
      ASSERT_EQ(tokenizer.decode(tail, true), item[4].get<std::string>());
    }
  }
}

TEST(TokenizerTest, ReadsMergesInBothSpellings) {
  Json as_lines = patched({});
  for (Json& merge : as_lines["model"]["merges"])
    if (merge.is_array()) merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  Json as_pairs = as_lines;
  for (Json& merge : as_pairs["model"]["merges"]) {
    const std::string line = merge;
    merge = {line.substr(0, line.find(' ')), line.substr(line.find(' ') + 1)};
  }
  const std::string text = "the quick brown fox, then 42";
  EXPECT_EQ(Tokenizer::from_json(as_lines.dump()).encode(text),
            Tokenizer::from_json(as_pairs.dump()).encode(text));
  EXPECT_LT(Tokenizer::from_json(as_pairs.dump()).encode(text).size(), text.size() / 2);
}

TEST(TokenizerTest, LongAndShortPiecesMergeAlike) {
  // The encoder changes its method with the length: a piece of n bytes against a naive merger.
  std::array<int32_t, 256> bytes{};
  for (int i = 0; i < 256; ++i) bytes[static_cast<size_t>(i)] = i;
  std::mt19937 random(3);
  std::vector<BytePairEncoder::Merge> merges;
  std::map<std::pair<int32_t, int32_t>, size_t> ranks;
  for (int32_t id = 256; id < 400; ++id) {
    const auto pick = [&] {
      return random() % 3 ? static_cast<int32_t>('a' + random() % 4)
                          : static_cast<int32_t>(id == 256 ? 'a' : 256 + random() % (id - 256));
    };
    const int32_t left = pick(), right = pick();
    if (ranks.emplace(std::pair(left, right), merges.size()).second)
      merges.push_back({left, right, id});
  }
  const BytePairEncoder encoder(bytes, merges);
  for (size_t n = 0; n < 120; ++n) {
    std::string piece;
    for (size_t i = 0; i < n; ++i) piece += static_cast<char>('a' + random() % 4);
    Ids expected(piece.begin(), piece.end());
    while (true) {
      size_t best = merges.size(), at = 0;
      for (size_t i = 0; i + 1 < expected.size(); ++i) {
        const auto rank = ranks.find({expected[i], expected[i + 1]});
        if (rank != ranks.end() && rank->second < best) best = rank->second, at = i;
      }
      if (best == merges.size()) break;
      expected[at] = merges[best].result;
      expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    Ids got;
    encoder.encode(piece, got);
    ASSERT_EQ(got, expected) << piece;
  }
}

TEST(TokenizerTest, AMillionLettersInOnePieceTakeNoQuadraticTime) {
  // Quadratic merging would need hours; the test only has to end.
  const Tokenizer tokenizer = make_tokenizer();
  std::string text;
  std::mt19937 random(5);
  for (int i = 0; i < 1'000'000; ++i) text += static_cast<char>('a' + random() % 26);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(TokenizerTest, DecodesWhatItEncodesOnRandomUnicode) {
  const Tokenizer tokenizer = make_tokenizer();
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = static_cast<int>(random() % 30); i > 0; --i) {
      uint32_t c = random() % 3 == 0 ? random() % 0x110000 : random() % 0x3000;
      if (c >= 0xD800 && c < 0xE000) c = ' ';
      if (c < 0x80) {
        text += static_cast<char>(c);
      } else if (c < 0x800) {
        text += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
      } else if (c < 0x10000) {
        text += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
                 static_cast<char>(0x80 | (c & 63))};
      } else {
        text += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
                 static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
      }
    }
    const Ids ids = tokenizer.encode(text);
    ASSERT_EQ(tokenizer.decode(ids), text);
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (int32_t id : ids) {
      const std::string part = stream.push(id);
      ASSERT_EQ(valid_utf8_prefix(part), part.size());
      streamed += part;
    }
    ASSERT_EQ(streamed + stream.finish(), text);
  }
}

TEST(TokenizerTest, StreamsTheSameTextAsDecodeForAnyTokens) {
  // Random tokens are mostly broken UTF-8; both must put the replacement characters alike.
  const Tokenizer tokenizer = make_tokenizer();
  std::mt19937 random(13);
  for (int round = 0; round < 2000; ++round) {
    Ids ids(random() % 12);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % tokenizer.vocab_size());
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (int32_t id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    ASSERT_EQ(streamed, tokenizer.decode(ids));
    ASSERT_EQ(valid_utf8_prefix(streamed), streamed.size());
  }
}

TEST(TokenizerTest, StreamHoldsBackUnfinishedCharacters) {
  const Tokenizer tokenizer = make_tokenizer();
  const auto byte = [&](std::string_view bytes) { return tokenizer.token_id(bytes).value(); };
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(byte("\xF0")), "");
  EXPECT_EQ(stream.push(byte("\x9F")), "");
  EXPECT_EQ(stream.push(byte("\x8C")), "");
  EXPECT_EQ(stream.push(byte("\x8D")), "🌍");
  EXPECT_EQ(stream.push(byte("\xE4")), "");
  EXPECT_EQ(stream.push(byte("a")), "\uFFFDa");
  EXPECT_EQ(stream.push(byte("\xE4")), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

Json special_tokens_patch() {
  const auto token = [](int id, const char* content, bool special) {
    return Json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", special}};
  };
  return {{"added_tokens", {token(1000, "<eos>", true), token(1002, "<think>", false)}}};
}

TEST(TokenizerTest, KnowsItsTokens) {
  const Tokenizer tokenizer = make_tokenizer(special_tokens_patch());
  EXPECT_EQ(tokenizer.vocab_size(), 1003);
  EXPECT_EQ(tokenizer.token_id("<eos>"), 1000);
  EXPECT_EQ(tokenizer.token_id("<think>"), 1002);
  EXPECT_EQ(tokenizer.token_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.encode(" the"), Ids{tokenizer.token_id(" the").value()});
  EXPECT_EQ(tokenizer.token_bytes(tokenizer.token_id(" the").value()), " the");
  EXPECT_TRUE(tokenizer.is_special(1000));
  EXPECT_FALSE(tokenizer.is_special(1002));
  EXPECT_FALSE(tokenizer.has_token(1001));
  EXPECT_FALSE(tokenizer.has_token(1003));
  EXPECT_FALSE(tokenizer.has_token(-1));
  EXPECT_EQ(tokenizer.decode(Ids{1000, 1002, 1000}, true), "<think>");
  StreamDecoder stream(tokenizer, true);
  EXPECT_EQ(stream.push(1000) + stream.push(1002), "<think>");
}

TEST(TokenizerTest, RefusesTokensThatDoNotExist) {
  const Tokenizer tokenizer = make_tokenizer(special_tokens_patch());
  for (int32_t id : {-1, 1001, 1003, 1 << 30}) {
    EXPECT_THROW(tokenizer.decode(Ids{id}), std::invalid_argument);
    EXPECT_THROW(tokenizer.token_bytes(id), std::invalid_argument);
  }
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8) {
  const Tokenizer tokenizer = make_tokenizer();
  for (const char* text : {"ab\xFF", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "a\xE4\xBD"}) {
    try {
      tokenizer.encode(text);
      ADD_FAILURE() << "accepted";
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("not UTF-8 at byte"));
    }
  }
}

TEST(TokenizerTest, ThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = make_tokenizer();
  const std::string text = "The quick brown fox — 12345 你好 don't stop!";
  const Ids expected = tokenizer.encode(text);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) wrong += tokenizer.encode(text) != expected;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(TokenizerTest, RefusesWhatItDoesNotSupportByName) {
  const auto refused = [](const Json& patch) { return refusal<ConfigError>(patched(patch)); };
  const Json byte_level = {{"type", "ByteLevel"}};
  const auto splitting = [&](const char* regex) {
    return Json{{"pre_tokenizer",
                 {{"type", "Sequence"},
                  {"pretokenizers",
                   {{{"type", "Split"},
                     {"pattern", {{"Regex", regex}}},
                     {"behavior", "Isolated"},
                     {"invert", false}},
                    byte_level}}}}};
  };
  const std::vector<std::pair<Json, std::string>> cases = {
      {{{"model", {{"type", "WordPiece"}}}}, "model.type is WordPiece"},
      {{{"model", {{"byte_fallback", true}}}}, "model.byte_fallback is true"},
      {{{"model", {{"unk_token", "<unk>"}}}}, "model.unk_token is \"<unk>\""},
      {{{"model", {{"dropout", 0.1}}}}, "model.dropout is 0.1"},
      {{{"model", {{"end_of_word_suffix", "</w>"}}}}, "model.end_of_word_suffix"},
      {{{"normalizer", {{"type", "Lowercase"}}}}, "normalizer is Lowercase"},
      {{{"normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFKC"}}}}}}},
       "normalizer.normalizers[0] is NFKC"},
      {{{"pre_tokenizer", nullptr}}, "pre_tokenizer is no ByteLevel"},
      {{{"pre_tokenizer", {{"type", "Metaspace"}}}}, "pre_tokenizer is Metaspace"},
      {{{"pre_tokenizer",
         {{"type", "Sequence"}, {"pretokenizers", {byte_level, {{"type", "Digits"}}}}}}},
       "Digits behind ByteLevel"},
      {{{"decoder", {{"type", "WordPiece"}}}}, "decoder is"},
      {{{"post_processor", {{"type", "BertProcessing"}}}}, "post_processor is BertProcessing"},
      {splitting("\\w+"), "'\\w'"},
      {splitting("[a[b]]"), "a class in a class"},
      {splitting("a{1,2}+"), "'+' after an interval"},
      {splitting("(?x)a"), "group '(?x)'"},
      {splitting("\\p{Emoji}"), "property 'Emoji'"},
      {splitting("(a"), "does not compile"},
  };
  for (const auto& [patch, text] : cases) {
    EXPECT_THAT(refused(patch),
                testing::AllOf(testing::HasSubstr("t.json: "), testing::HasSubstr(text)));
  }
}

TEST(TokenizerTest, NamesWhatIsCorrupt) {
  Json root = patched({});
  const auto broken = [&](const char* pointer, const Json& value) {
    Json copy = root;
    copy[Json::json_pointer(pointer)] = value;
    return refusal<IoError>(copy);
  };
  EXPECT_THAT(broken("/model/vocab/a", "x"), testing::HasSubstr("t.json: model.vocab.a is \"x\""));
  EXPECT_THAT(broken("/model/vocab/a", root["model"]["vocab"]["b"]),
              testing::HasSubstr("gives id"));
  EXPECT_THAT(broken("/model/vocab/zz", 1'000'000'000), testing::HasSubstr("the highest id"));
  EXPECT_THAT(broken("/model/merges/0", "abc"), testing::HasSubstr("model.merges[0] is \"abc\""));
  EXPECT_THAT(broken("/model/merges/0", Json::array({"q", "qqq"})),
              testing::HasSubstr("'qqq' is not in model.vocab"));
  EXPECT_THAT(broken("/added_tokens", Json::array({{{"id", 5}, {"content", "zzz"}}})),
              testing::HasSubstr("added token 'zzz' has id 5"));
  EXPECT_THAT(broken("/added_tokens", Json::array({{{"id", 900}}})),
              testing::HasSubstr("added_tokens[0].content is missing"));
  root["model"]["vocab"].erase("a");
  root["model"]["merges"] = Json::array();
  EXPECT_THAT(refusal<IoError>(root), testing::HasSubstr("lacks byte 97"));
  EXPECT_THAT(refusal<IoError>(Json::array()), testing::HasSubstr("the root is []"));
  EXPECT_THROW(Tokenizer::from_json("{\"model\": "), IoError);
  EXPECT_THROW(Tokenizer::from_json(""), IoError);
  EXPECT_THROW(Tokenizer::from_file("/nonexistent/tokenizer.json"), IoError);
}

TEST(Utf8Test, ReplacesMaximalInvalidParts) {
  const auto lossy = [](std::string_view bytes) {
    std::string out;
    EXPECT_EQ(append_utf8_lossy(bytes, false, out), bytes.size());
    return out;
  };
  EXPECT_EQ(lossy("a\xFF"
                  "b"),
            "a\uFFFDb");
  EXPECT_EQ(lossy("\xE4\xBD"), "\uFFFD");
  EXPECT_EQ(lossy("\xE4\xBDx"), "\uFFFDx");
  EXPECT_EQ(lossy("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(lossy("\xF0\x9F\x8C\xF0\x9F\x8C\x8D"), "\uFFFD🌍");
  EXPECT_EQ(lossy("\xC0\xAF"), "\uFFFD\uFFFD");
}

}  // namespace
}  // namespace moerl::policy
