#include "reward/verifiers/gsm8k.h"

#include "common/check.h"
#include "reward/verifiers/answer_scoring.h"
#include "reward/verifiers/answer_text.h"
#include "reward/verifiers/number.h"

namespace moerl::reward {
namespace {

enum class Method { kStrict, kFlexible, kAnswerTag };
constexpr std::string_view kMarker = "####";

struct Gsm8kOptions {
  AnswerScoring scoring;
  Method method;
  mpq_class tolerance;
};

Gsm8kOptions parse_options(const Options& options) {
  OptionReader reader("gsm8k", options);
  Gsm8kOptions parsed;
  parsed.scoring = read_answer_scoring(reader, 0);
  parsed.method =
      static_cast<Method>(reader.choice("method", 0, {"strict", "flexible", "answer_tag"}));
  const std::string text = reader.text("tolerance", "0");
  const auto tolerance = scan_number(text);
  check(tolerance && tolerance->size == text.size() && tolerance->value && *tolerance->value >= 0,
        "verifier 'gsm8k': option tolerance is '", text, "', expected a number >= 0");
  parsed.tolerance = *tolerance->value;
  reader.finish();
  return parsed;
}

/// A number and the text that it was read from.
struct Found {
  std::string_view text;
  std::optional<mpq_class> value;
};

bool is_word_char(char c) {
  return ('0' <= c && c <= '9') || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || c == '_';
}

/// True if what follows a number makes it a part of something else: 5x, 12:00, 2^3, 3+4.
bool continues_expression(std::string_view rest) {
  if (rest.empty()) return false;
  const bool is_followed = rest.size() > 1 && is_word_char(rest[1]);
  if (std::string_view("*.,").find(rest[0]) != std::string_view::npos) return is_followed;
  return is_word_char(rest[0]) ||
         std::string_view(":/^+-=(\\").find(rest[0]) != std::string_view::npos;
}

/// The number after a marker. Empty optional if there is none.
std::optional<Found> number_after(std::string_view text) {
  text = text.substr(std::min(text.size(), text.find_first_not_of(" \t")));
  const auto number = scan_number(text);
  if (!number || continues_expression(text.substr(number->size))) return std::nullopt;
  return Found{text.substr(0, number->size), number->value};
}

/// The last marker that a number follows.
std::optional<Found> last_marked_number(std::string_view text) {
  for (size_t at = text.rfind(kMarker); at != std::string_view::npos;
       at = at == 0 ? std::string_view::npos : text.rfind(kMarker, at - 1))
    if (auto found = number_after(text.substr(at + kMarker.size()))) return found;
  return std::nullopt;
}

/// The last number anywhere. A sign that follows a word, a number or ')' is an operator.
std::optional<Found> last_number(std::string_view text) {
  std::optional<Found> last;
  for (size_t at = 0; at < text.size();) {
    const auto number = scan_number(text.substr(at));
    const bool is_after_operand = at > 0 && (is_word_char(text[at - 1]) || text[at - 1] == ')');
    const bool starts_with_sign = !is_word_char(text[at]) && text[at] != '$' && text[at] != '.';
    if (!number || (is_after_operand && starts_with_sign)) {
      ++at;
      continue;
    }
    last = Found{text.substr(at, number->size), number->value};
    at += number->size;
  }
  return last;
}

/// The number that is the whole text, but for a final "." or "%".
std::optional<Found> whole_number(std::string_view text) {
  const auto number = scan_number(text);
  if (!number) return std::nullopt;
  const std::string_view rest = text.substr(number->size);
  if (!rest.empty() && rest != "." && rest != "%") return std::nullopt;
  return Found{text.substr(0, number->size), number->value};
}

/// Where the answer belongs, and the number in it, if it is one.
struct Answer {
  std::string_view text;
  std::optional<Found> number;
};

/// @return empty optional if there is no answer.
std::optional<Answer> find_answer(std::string_view graded, Method method) {
  switch (method) {
    case Method::kStrict: {
      const size_t marker = graded.rfind(kMarker);
      if (marker == std::string_view::npos) return std::nullopt;
      const std::string_view rest = graded.substr(marker + kMarker.size());
      return Answer{strip(rest.substr(0, rest.find('\n'))), last_marked_number(graded)};
    }
    case Method::kFlexible: {
      const auto number = last_number(graded);
      if (!number) return std::nullopt;
      return Answer{number->text, number};
    }
    case Method::kAnswerTag: {
      const auto text = last_answer(graded);
      if (!text || text->empty()) return std::nullopt;
      return Answer{*text, whole_number(*text)};
    }
  }
  return std::nullopt;
}

std::optional<mpq_class> parse_gold(std::string_view ground_truth) {
  const std::string_view text = strip(ground_truth);
  const auto found =
      text.find(kMarker) != std::string_view::npos ? last_marked_number(text) : whole_number(text);
  return found ? found->value : std::nullopt;
}

}  // namespace

std::string_view Gsm8kVerifier::description() const {
  return "the answer's number equals the ground truth's, exactly; options method=strict|flexible|"
         "answer_tag, tolerance=0, accuracy_weight=1, format_weight=0, format_rule=answer, "
         "prefix_open_think=false";
}

std::vector<std::string> Gsm8kVerifier::part_names() const { return answer_part_names(); }

void Gsm8kVerifier::check_options(const Options& options) const { parse_options(options); }

Verdict Gsm8kVerifier::score(const Sample& sample, const Options& options,
                             const WorkBudget&) const {
  const Gsm8kOptions parsed = parse_options(options);
  auto verdict = [&](VerdictStatus status, std::string_view extracted, std::string detail) {
    return make_verdict(parsed.scoring, sample.response, status, extracted, std::move(detail));
  };
  const auto gold = parse_gold(sample.ground_truth);
  if (!gold)
    return verdict(VerdictStatus::kGoldError, "",
                   concat("the ground truth is '", truncate_utf8(sample.ground_truth, 80),
                          "', expected a number"));

  const auto graded = graded_text(sample.response, parsed.scoring.prefix_open_think);
  const auto answer = graded ? find_answer(*graded, parsed.method) : std::nullopt;
  if (!answer) return verdict(VerdictStatus::kNoAnswer, "", "");
  if (!answer->number)
    return verdict(VerdictStatus::kUnparsable, answer->text, "the answer is not a number");
  if (!answer->number->value)
    return verdict(VerdictStatus::kLimit, answer->number->text, "the number is too long");

  const mpq_class difference = abs(*answer->number->value - *gold);
  const bool is_right = difference <= parsed.tolerance;
  return verdict(is_right ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect,
                 answer->number->text, "");
}

}  // namespace moerl::reward
