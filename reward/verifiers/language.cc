#include "reward/verifiers/language.h"

#include <unicode/uscript.h>

#include <algorithm>
#include <array>
// CLD2's header uses fprintf without including this.
#include <cld2/public/compact_lang_det.h>

#include <cstdio>

#include "reward/utf8.h"
#include "reward/verifiers/words.h"

namespace moerl::reward {
namespace {

constexpr size_t kWordsOfWindow = 8, kMaxWordsOfWindow = 64;

struct Known {
  std::string_view code;
  std::array<UScriptCode, 3> scripts;  // unused places hold the first
};

constexpr Known latin(std::string_view code) {
  return {code, {USCRIPT_LATIN, USCRIPT_LATIN, USCRIPT_LATIN}};
}
constexpr Known one(std::string_view code, UScriptCode script) {
  return {code, {script, script, script}};
}

constexpr Known kKnown[] = {
    one("ar", USCRIPT_ARABIC),
    one("bg", USCRIPT_CYRILLIC),
    one("bn", USCRIPT_BENGALI),
    latin("ca"),
    latin("cs"),
    latin("da"),
    latin("de"),
    one("el", USCRIPT_GREEK),
    latin("en"),
    latin("es"),
    latin("et"),
    one("fa", USCRIPT_ARABIC),
    latin("fi"),
    latin("fr"),
    one("he", USCRIPT_HEBREW),
    one("hi", USCRIPT_DEVANAGARI),
    latin("hr"),
    latin("hu"),
    latin("id"),
    latin("it"),
    {"ja", {USCRIPT_HAN, USCRIPT_HIRAGANA, USCRIPT_KATAKANA}},
    {"ko", {USCRIPT_HANGUL, USCRIPT_HAN, USCRIPT_HANGUL}},
    latin("lt"),
    latin("lv"),
    latin("ms"),
    latin("nl"),
    latin("no"),
    latin("pl"),
    latin("pt"),
    latin("ro"),
    one("ru", USCRIPT_CYRILLIC),
    latin("sk"),
    latin("sl"),
    one("sr", USCRIPT_CYRILLIC),
    latin("sv"),
    latin("sw"),
    one("ta", USCRIPT_TAMIL),
    one("te", USCRIPT_TELUGU),
    one("th", USCRIPT_THAI),
    latin("tl"),
    latin("tr"),
    one("uk", USCRIPT_CYRILLIC),
    one("ur", USCRIPT_ARABIC),
    latin("vi"),
    one("zh", USCRIPT_HAN),
};

const Known* find_known(std::string_view code) {
  const auto it = std::find_if(std::begin(kKnown), std::end(kKnown),
                               [&](const Known& each) { return each.code == code; });
  return it == std::end(kKnown) ? nullptr : it;
}

bool is_letter(char c) { return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z'); }
bool is_blank(char c) { return c == ' ' || ('\t' <= c && c <= '\r'); }

/// End of the span that `open` starts at `at` and `close` ends; npos if it is not closed. Looks no
/// further than a line for single signs, so a lone dollar sign or backtick hides nothing.
size_t span_end(std::string_view text, size_t at, std::string_view open, std::string_view close,
                bool within_line) {
  if (!text.substr(at).starts_with(open)) return std::string_view::npos;
  const size_t begin = at + open.size(), end = text.find(close, begin);
  if (end == std::string_view::npos || end == begin) return std::string_view::npos;
  const bool crosses = text.substr(begin, end - begin).find('\n') != std::string_view::npos;
  return within_line && crosses ? std::string_view::npos : end + close.size();
}

/// End of what starts at `at` and is no prose; `at` itself if prose goes on.
class ProseFilter {
 public:
  explicit ProseFilter(std::string_view text) : text_(text) {}

  size_t skip_from(size_t at) {
    const char c = text_[at];
    if (c == '$') {
      if (const size_t end = closed(at, "$$", "$$", false, 0); end != kOpen) return end;
      if (const size_t end = closed(at, "$", "$", true, 1); end != kOpen) return end;
    } else if (c == '`') {
      if (const size_t end = closed(at, "```", "```", false, 2); end != kOpen) return end;
      if (const size_t end = closed(at, "`", "`", true, 3); end != kOpen) return end;
    } else if (c == '\\') {
      if (const size_t end = closed(at, "\\(", "\\)", false, 4); end != kOpen) return end;
      if (const size_t end = closed(at, "\\[", "\\]", false, 5); end != kOpen) return end;
      return command_end(at);
    } else if (c == '<') {
      return tag_end(at);
    } else if ((c == 'h' || c == 'w') && (at == 0 || !is_letter(text_[at - 1]))) {
      for (std::string_view scheme : {"http://", "https://", "www."})
        if (text_.substr(at).starts_with(scheme)) return word_end(at);
    }
    return at;
  }

 private:
  static constexpr size_t kOpen = std::string_view::npos;

  /// span_end, but after one failure over the whole text the search is not begun again.
  size_t closed(size_t at, std::string_view open, std::string_view close, bool within_line,
                size_t kind) {
    if (hopeless_[kind]) return kOpen;
    const size_t end = span_end(text_, at, open, close, within_line);
    if (end == kOpen && !within_line && text_.substr(at).starts_with(open) &&
        text_.find(close, at + open.size()) == kOpen)
      hopeless_[kind] = true;
    return end;
  }
  size_t command_end(size_t at) const {
    size_t end = at + 1;
    while (end < text_.size() && is_letter(text_[end])) ++end;
    const std::string_view name = text_.substr(at + 1, end - at - 1);
    // The argument of \text is prose.
    if (name == "text" || name == "textbf" || name == "emph" || name == "textit") return end;
    while (end < text_.size() && text_[end] == '{') {
      size_t depth = 0, i = end;
      const size_t limit = std::min(text_.size(), end + 256);
      for (; i < limit; ++i) {
        depth += text_[i] == '{';
        if (text_[i] == '}' && --depth == 0) break;
      }
      if (i >= limit) break;
      end = i + 1;
    }
    return end;
  }
  size_t tag_end(size_t at) const {
    size_t end = at + 1;
    if (end < text_.size() && text_[end] == '/') ++end;
    const size_t name = end;
    while (end < text_.size() && end - name < 32 && (is_letter(text_[end]) || text_[end] == '_'))
      ++end;
    return end > name && end < text_.size() && text_[end] == '>' ? end + 1 : at;
  }
  size_t word_end(size_t at) const {
    while (at < text_.size() && !is_blank(text_[at])) ++at;
    return at;
  }

  std::string_view text_;
  std::array<bool, 6> hopeless_{};
};

std::string prose_of(std::string_view text) {
  std::string prose;
  ProseFilter filter(text);
  for (size_t at = 0; at < text.size();) {
    const size_t end = filter.skip_from(at);
    prose += end > at ? ' ' : text[at];
    at = std::max(end, at + 1);
  }
  return prose;
}

bool ends_sentence(std::string_view between) {
  for (std::string_view sign : {"\n", ".", "!", "?", ";", "。", "！", "？", "؟", "।"})
    if (between.find(sign) != std::string_view::npos) return true;
  return false;
}

/// True if CLD2 is sure that the text is in a language that is not the target.
bool is_in_another_language(std::string_view text, const TargetLanguage& target) {
  bool is_reliable = false;
  const CLD2::Language language = CLD2::DetectLanguage(text.data(), static_cast<int>(text.size()),
                                                       /*is_plain_text=*/true, &is_reliable);
  if (!is_reliable || language == CLD2::UNKNOWN_LANGUAGE) return false;
  std::string_view code = CLD2::LanguageCode(language);
  code = code.substr(0, code.find('-'));
  if (code == "iw") code = "he";
  return code != target.code;
}

}  // namespace

std::optional<TargetLanguage> find_language(std::string_view code) {
  if (find_known(code) == nullptr) return std::nullopt;
  return TargetLanguage{std::string(code)};
}

std::string known_languages() {
  std::string codes;
  for (const Known& each : kKnown) codes += (codes.empty() ? "" : ", ") + std::string(each.code);
  return codes;
}

LanguageCount count_language(std::string_view text, const TargetLanguage& target) {
  const Known& known = *find_known(target.code);
  const auto is_target_script = [&](int32_t script) {
    return std::find(known.scripts.begin(), known.scripts.end(), script) != known.scripts.end();
  };
  const bool is_latin = is_target_script(USCRIPT_LATIN);
  const std::string prose = prose_of(to_valid_utf8(text));
  std::vector<Word> words = words_of(prose);
  if (!is_latin)
    std::erase_if(words,
                  [](const Word& w) { return w.script == USCRIPT_LATIN && w.num_letters == 1; });

  LanguageCount count;
  for (size_t begin = 0; begin < words.size();) {
    size_t end = begin + 1;
    const auto gap = [&] {
      return std::string_view(prose).substr(words[end - 1].end,
                                            words[end].begin - words[end - 1].end);
    };
    while (end < words.size() && end - begin < kMaxWordsOfWindow &&
           (end - begin < kWordsOfWindow || !ends_sentence(gap())))
      ++end;
    // A short rest at the end is too little to judge by; it joins the window before it.
    if (words.size() - end < kWordsOfWindow) end = words.size();
    const std::string_view window =
        std::string_view(prose).substr(words[begin].begin, words[end - 1].end - words[begin].begin);
    const int64_t in_script = std::count_if(
        words.begin() + static_cast<ptrdiff_t>(begin), words.begin() + static_cast<ptrdiff_t>(end),
        [&](const Word& w) { return is_target_script(w.script) || w.script == USCRIPT_COMMON; });
    count.num_words += static_cast<int64_t>(end - begin);
    if (in_script > 0 && !is_in_another_language(window, target)) count.num_target += in_script;
    begin = end;
  }
  return count;
}

}  // namespace moerl::reward
