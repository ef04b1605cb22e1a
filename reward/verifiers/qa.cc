#include "reward/verifiers/qa.h"

#include <algorithm>
#include <map>
#include <optional>

#include "common/json.h"
#include "reward/ascii.h"
#include "reward/option_reader.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/words.h"

namespace moerl::reward {
namespace {

enum class Extraction { kAuto, kAnswerTag, kBoxed, kText };
enum class Metric { kEm, kF1, kEmOrF1 };
constexpr size_t kMaxAnswerBytes = 1 << 16;

struct QaOptions {
  Extraction extraction;
  Metric metric;
  double f1_threshold;
  bool prefix_open_think;
};

QaOptions parse_options(const Options& options) {
  OptionReader reader("qa", options);
  QaOptions parsed;
  parsed.extraction = static_cast<Extraction>(
      reader.choice("extraction", 0, {"auto", "answer_tag", "boxed", "text"}));
  parsed.metric = static_cast<Metric>(reader.choice("metric", 0, {"em", "f1", "em_or_f1"}));
  parsed.f1_threshold = reader.number("f1_threshold", 0.3, 0, 1);
  parsed.prefix_open_think = reader.flag("prefix_open_think", false);
  reader.finish();
  return parsed;
}

/// What the last "\boxed{" holds up to its matching brace; empty optional if there is none.
std::optional<std::string_view> last_boxed(std::string_view text) {
  constexpr std::string_view kOpen = "\\boxed{";
  const size_t at = text.rfind(kOpen);
  if (at == std::string_view::npos) return std::nullopt;
  text.remove_prefix(at + kOpen.size());
  int depth = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    depth += (text[i] == '{') - (text[i] == '}');
    if (depth == 0) return strip(text.substr(0, i));
  }
  return std::nullopt;
}

std::optional<std::string_view> extract(std::string_view response, const QaOptions& options) {
  const auto graded = graded_text(response, options.prefix_open_think);
  if (!graded || options.extraction == Extraction::kText) return graded;
  const auto tagged =
      options.extraction == Extraction::kBoxed ? std::nullopt : last_answer(*graded);
  if (tagged || options.extraction == Extraction::kAnswerTag) return tagged;
  const auto boxed = last_boxed(*graded);
  return boxed || options.extraction == Extraction::kBoxed ? boxed : graded;
}

/// The words of the text after SQuAD's normalisation: punctuation is ASCII's.
std::vector<std::string> normalised_words(std::string_view text) {
  std::string kept = to_lower_case(text);
  std::erase_if(kept, [](char c) { return '!' <= c && c <= '~' && !is_letter(c) && !is_digit(c); });
  std::vector<std::string> words;
  for (size_t at = 0; at < kept.size();) {
    size_t end = at;
    while (end < kept.size() && !is_space(kept[end])) ++end;
    std::string word = kept.substr(at, end - at);
    if (!word.empty() && word != "a" && word != "an" && word != "the")
      words.push_back(std::move(word));
    at = end + 1;
  }
  return words;
}

double token_f1(const std::vector<std::string>& answer, const std::vector<std::string>& gold) {
  std::map<std::string_view, int> counts;
  for (const std::string& word : gold) ++counts[word];
  double common = 0;
  for (const std::string& word : answer)
    if (const auto it = counts.find(word); it != counts.end() && it->second-- > 0) common += 1;
  if (common == 0) return 0;
  const double precision = common / static_cast<double>(answer.size());
  const double recall = common / static_cast<double>(gold.size());
  return 2 * precision * recall / (precision + recall);
}

/// The acceptable answers of a row; empty if it has none with a word.
std::vector<std::vector<std::string>> parse_golds(const std::string& ground_truth) {
  std::vector<std::string> texts = {ground_truth};
  if (strip(ground_truth).starts_with('[')) {
    const auto list = try_parse_json(ground_truth);
    if (list.is_array() && std::all_of(list.begin(), list.end(), [](const auto& each) {
          return each.is_string() || each.is_number();
        })) {
      texts.clear();
      for (const auto& each : list)
        texts.push_back(each.is_string() ? each.template get<std::string>() : each.dump());
    }
  }
  std::vector<std::vector<std::string>> golds;
  for (const std::string& text : texts)
    if (auto words = normalised_words(text); !words.empty()) golds.push_back(std::move(words));
  return golds;
}

}  // namespace

std::string_view QaVerifier::description() const {
  return "SQuAD exact match and token F1 against one or several answers; options "
         "metric=em|f1|em_or_f1, f1_threshold=0.3, extraction=auto|answer_tag|boxed|text, "
         "prefix_open_think=false";
}

void QaVerifier::check_options(const Options& options) const { parse_options(options); }

Verdict QaVerifier::score(const Sample& sample, const Options& options, const WorkBudget&) const {
  const QaOptions parsed = parse_options(options);
  Verdict verdict;
  verdict.parts = {{"em", 0}, {"f1", 0}};
  const auto ended = [&](VerdictStatus status, std::string detail = {}) {
    verdict.status = status;
    verdict.detail = std::move(detail);
    return verdict;
  };
  const auto golds = parse_golds(sample.ground_truth);
  if (golds.empty()) return ended(VerdictStatus::kGoldError, "the ground truth has no words");
  const auto answer = extract(sample.response, parsed);
  if (!answer) return ended(VerdictStatus::kNoAnswer);
  verdict.extracted = truncate_utf8(*answer, kMaxExtractedBytes);
  if (answer->size() > kMaxAnswerBytes)
    return ended(VerdictStatus::kLimit, "the answer is too long");
  const std::vector<std::string> words = normalised_words(*answer);
  if (words.empty()) return ended(VerdictStatus::kNoAnswer);

  double em = 0, f1 = 0;
  for (const auto& gold : golds) {
    em = std::max(em, words == gold ? 1.0 : 0.0);
    f1 = std::max(f1, token_f1(words, gold));
  }
  verdict.parts = {{"em", em}, {"f1", f1}};
  const double f1_or_nothing = f1 >= parsed.f1_threshold ? f1 : 0;
  verdict.score = parsed.metric == Metric::kEm || em == 1 ? em
                  : parsed.metric == Metric::kF1          ? f1
                                                          : f1_or_nothing;
  return ended(em == 1 ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect);
}

}  // namespace moerl::reward
