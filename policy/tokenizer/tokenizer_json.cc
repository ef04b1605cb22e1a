#include "policy/tokenizer/tokenizer_json.h"

#include <limits>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/json.h"

namespace moerl::policy {
namespace {

using Json = nlohmann::json;

class Parser {
 public:
  Parser(const Json& root, const std::string& name) : root_(root), name_(name) {}

  TokenizerFile parse() {
    if (!root_.is_object()) corrupt("the root", "an object", root_);
    parse_model(member(root_, "", "model"));
    parse_normalizer(optional(root_, "normalizer"), "normalizer");
    parse_pre_tokenizer(optional(root_, "pre_tokenizer"), "pre_tokenizer");
    if (!has_byte_level_) refuse("pre_tokenizer", "no ByteLevel", "a ByteLevel at the end");
    parse_post_processor(optional(root_, "post_processor"), "post_processor");
    const Json& decoder = optional(root_, "decoder");
    if (decoder.is_null() || type_of(decoder, "decoder") != "ByteLevel")
      refuse("decoder", shown(decoder), "ByteLevel");
    const Json& added = optional(root_, "added_tokens");
    if (!added.is_null()) {
      if (!added.is_array()) corrupt("added_tokens", "a list", added);
      for (size_t i = 0; i < added.size(); ++i) parse_added_token(added[i], i);
    }
    return std::move(file_);
  }

 private:
  static std::string shown(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 80) text = concat(value.type_name(), " of ", text.size(), " characters");
    return text;
  }
  [[noreturn]] void corrupt(std::string_view path, std::string_view expected,
                            const Json& got) const {
    throw IoError(concat(name_, ": ", path, " is ", shown(got), ", expected ", expected));
  }
  [[noreturn]] void refuse(std::string_view path, std::string_view got,
                           std::string_view supported) const {
    throw ConfigError(
        concat(name_, ": ", path, " is ", got, ", which is not supported; expected ", supported));
  }

  static const Json& optional(const Json& object, const char* key) {
    static const Json null;
    const auto item = object.find(key);
    return item == object.end() ? null : *item;
  }
  const Json& member(const Json& object, const std::string& path, const char* key) const {
    if (!object.is_object()) corrupt(path.empty() ? "the root" : path, "an object", object);
    const auto item = object.find(key);
    if (item == object.end())
      throw IoError(concat(name_, ": ", path, path.empty() ? "" : ".", key, " is missing"));
    return *item;
  }
  std::string type_of(const Json& object, const std::string& path) const {
    return text(object, path, "type");
  }
  std::string text(const Json& object, const std::string& path, const char* key) const {
    const Json& value = member(object, path, key);
    if (!value.is_string()) corrupt(concat(path, ".", key), "text", value);
    return value.get<std::string>();
  }
  bool flag(const Json& object, const std::string& path, const char* key, bool missing) const {
    if (!object.is_object()) corrupt(path, "an object", object);
    const Json& value = optional(object, key);
    if (value.is_null()) return missing;
    if (!value.is_boolean()) corrupt(concat(path, ".", key), "true or false", value);
    return value.get<bool>();
  }
  int32_t id(const Json& value, std::string_view path, std::string_view key) const {
    if (!value.is_number_unsigned() ||
        value.get<uint64_t>() >= static_cast<uint64_t>(std::numeric_limits<int32_t>::max()))
      corrupt(concat(path, ".", key), "an id of 0 to 2^31 - 2", value);
    return value.get<int32_t>();
  }
  const Json& list(const Json& object, const std::string& path, const char* key) const {
    const Json& items = member(object, path, key);
    if (!items.is_array()) corrupt(concat(path, ".", key), "a list", items);
    return items;
  }

  void parse_model(const Json& model) {
    const std::string type = type_of(model, "model");
    if (type != "BPE") refuse("model.type", type, "BPE");
    for (const char* key : {"byte_fallback", "fuse_unk"})
      if (flag(model, "model", key, false)) refuse(concat("model.", key), "true", "false");
    for (const char* key : {"unk_token", "dropout"})
      if (!optional(model, key).is_null())
        refuse(concat("model.", key), shown(optional(model, key)), "null");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json& affix = optional(model, key);
      if (!affix.is_null() && affix != "")
        refuse(concat("model.", key), shown(affix), "null or empty");
    }
    file_.ignore_merges = flag(model, "model", "ignore_merges", false);
    const Json& vocab = member(model, "model", "vocab");
    if (!vocab.is_object()) corrupt("model.vocab", "an object", vocab);
    file_.vocab.reserve(vocab.size());
    for (const auto& [token, value] : vocab.items())
      file_.vocab.emplace_back(token, id(value, "model.vocab", token));
    const Json& merges = list(model, "model", "merges");
    file_.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) parse_merge(merges[i], i);
  }

  void parse_merge(const Json& merge, size_t index) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      file_.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      return;
    }
    const auto is_pair = [](const std::string& line) {
      const size_t space = line.find(' ');
      return space != std::string::npos && line.find(' ', space + 1) == std::string::npos;
    };
    if (!merge.is_string() || !is_pair(merge.get_ref<const std::string&>())) {
      if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) return;
      corrupt(concat("model.merges[", index, "]"), "\"left right\" or [\"left\", \"right\"]",
              merge);
    }
    const auto& line = merge.get_ref<const std::string&>();
    const size_t space = line.find(' ');
    file_.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }

  void parse_normalizer(const Json& normalizer, const std::string& path) {
    if (normalizer.is_null()) return;
    const std::string type = type_of(normalizer, path);
    if (type == "NFC") {
      file_.normalize_nfc = true;
    } else if (type == "Sequence") {
      const Json& items = list(normalizer, path, "normalizers");
      for (size_t i = 0; i < items.size(); ++i)
        parse_normalizer(items[i], concat(path, ".normalizers[", i, "]"));
    } else {
      refuse(path, type, "null, NFC or a Sequence of them");
    }
  }

  void parse_pre_tokenizer(const Json& pre, const std::string& path) {
    if (pre.is_null()) return;
    const std::string type = type_of(pre, path);
    if (has_byte_level_) refuse(path, concat(type, " behind ByteLevel"), "ByteLevel at the end");
    if (type == "Sequence") {
      const Json& items = list(pre, path, "pretokenizers");
      for (size_t i = 0; i < items.size(); ++i)
        parse_pre_tokenizer(items[i], concat(path, ".pretokenizers[", i, "]"));
    } else if (type == "Split") {
      file_.pre_tokenizer.splits.push_back(parse_split(pre, path));
    } else if (type == "Digits") {
      const bool is_individual = flag(pre, path, "individual_digits", false);
      file_.pre_tokenizer.splits.push_back(
          {"\\p{N}", Regex::Syntax::kOniguruma,
           is_individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false});
    } else if (type == "ByteLevel") {
      has_byte_level_ = true;
      file_.pre_tokenizer.add_prefix_space = flag(pre, path, "add_prefix_space", true);
      file_.pre_tokenizer.use_regex = flag(pre, path, "use_regex", true);
    } else {
      refuse(path, type, "Sequence, Split, Digits or ByteLevel");
    }
  }

  SplitConfig parse_split(const Json& split, const std::string& path) const {
    SplitConfig config;
    const Json& pattern = member(split, path, "pattern");
    if (!pattern.is_object() || pattern.size() != 1 || !pattern.front().is_string() ||
        !(pattern.contains("Regex") || pattern.contains("String")))
      corrupt(concat(path, ".pattern"), "{\"Regex\": text} or {\"String\": text}", pattern);
    config.pattern = pattern.front().get<std::string>();
    if (config.pattern.empty())
      corrupt(concat(path, ".pattern"), "text that is not empty", pattern);
    config.syntax = pattern.contains("Regex") ? Regex::Syntax::kOniguruma : Regex::Syntax::kLiteral;
    config.invert = flag(split, path, "invert", false);
    const std::string behavior = text(split, path, "behavior");
    if (behavior == "Isolated") {
      config.behavior = SplitBehavior::kIsolated;
    } else if (behavior == "Removed") {
      config.behavior = SplitBehavior::kRemoved;
    } else if (behavior == "MergedWithPrevious") {
      config.behavior = SplitBehavior::kMergedWithPrevious;
    } else if (behavior == "MergedWithNext") {
      config.behavior = SplitBehavior::kMergedWithNext;
    } else if (behavior == "Contiguous") {
      config.behavior = SplitBehavior::kContiguous;
    } else {
      refuse(concat(path, ".behavior"), behavior,
             "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
    }
    return config;
  }

  /// ByteLevel trims offsets and changes no token. A TemplateProcessing puts tokens around the
  /// text.
  void parse_post_processor(const Json& post, const std::string& path) {
    if (post.is_null()) return;
    const std::string type = type_of(post, path);
    if (type == "Sequence") {
      const Json& items = list(post, path, "processors");
      for (size_t i = 0; i < items.size(); ++i)
        parse_post_processor(items[i], concat(path, ".processors[", i, "]"));
    } else if (type == "TemplateProcessing") {
      parse_template(post, path);
    } else if (type != "ByteLevel") {
      refuse(path, type, "null, ByteLevel, TemplateProcessing or a Sequence of them");
    }
  }

  void parse_template(const Json& post, const std::string& path) {
    const Json& pieces = list(post, path, "single");
    TokenFrame frame;
    bool is_behind = false;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const std::string at = concat(path, ".single[", i, "]");
      const Json& piece = pieces[i];
      if (!piece.is_object() || piece.size() != 1)
        corrupt(at, "{\"SpecialToken\": …} or {\"Sequence\": …}", piece);
      if (piece.contains("Sequence")) {
        if (std::exchange(is_behind, true)) refuse(path, "a template with the text twice", "once");
        continue;
      }
      const std::string token = text(member(piece, at, "SpecialToken"), at, "id");
      const std::string where = concat(path, ".special_tokens.", token);
      const Json& entry =
          member(member(post, path, "special_tokens"), path + ".special_tokens", token.c_str());
      for (const Json& value : list(entry, where, "ids"))
        (is_behind ? frame.suffix : frame.prefix).push_back(id(value, where, "ids"));
    }
    if (!is_behind) corrupt(concat(path, ".single"), "a template with the text in it", pieces);
    // The last of several stands outermost.
    file_.frame.prefix.insert(file_.frame.prefix.begin(), frame.prefix.begin(), frame.prefix.end());
    file_.frame.suffix.insert(file_.frame.suffix.end(), frame.suffix.begin(), frame.suffix.end());
  }

  void parse_added_token(const Json& item, size_t index) {
    const std::string path = concat("added_tokens[", index, "]");
    AddedToken token;
    token.id = id(member(item, path, "id"), path, "id");
    token.content = text(item, path, "content");
    if (token.content.empty())
      corrupt(concat(path, ".content"), "text that is not empty", item["content"]);
    token.special = flag(item, path, "special", false);
    token.normalized = flag(item, path, "normalized", !token.special);
    token.lstrip = flag(item, path, "lstrip", false);
    token.rstrip = flag(item, path, "rstrip", false);
    token.single_word = flag(item, path, "single_word", false);
    file_.added_tokens.push_back(std::move(token));
  }

  const Json& root_;
  const std::string& name_;
  TokenizerFile file_;
  bool has_byte_level_ = false;
};

}  // namespace

TokenizerFile parse_tokenizer_json(std::string_view text, const std::string& name) {
  Json root;
  try {
    root = parse_json(text);
  } catch (const Json::exception& error) {
    throw IoError(concat(name, ": not JSON: ", error.what()));
  }
  return Parser(root, name).parse();
}

}  // namespace moerl::policy
