// Countdown as a shared library: see CMakeLists.txt beside this file. The rules are those of the
// built-in verifier `countdown`, for given numbers below 10^9 and values whose fractions stay
// below 10^17.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moerl_reward.h"

namespace {

struct Malformed {};

struct Fraction {
  __int128 over, under;
};

/// Sum, product and so on; empty after a division by zero.
std::optional<Fraction> apply(char op, std::optional<Fraction> a, std::optional<Fraction> b) {
  if (!a || !b || (op == '/' && b->over == 0)) return std::nullopt;
  if (op == '-') b->over = -b->over;
  if (op == '/') std::swap(b->over, b->under);
  Fraction c = op == '*' || op == '/'
                   ? Fraction{a->over * b->over, a->under * b->under}
                   : Fraction{a->over * b->under + b->over * a->under, a->under * b->under};
  __int128 x = c.over < 0 ? -c.over : c.over, y = c.under < 0 ? -c.under : c.under;
  while (y != 0) std::swap(x %= y, y);
  const __int128 divisor = c.under < 0 ? -x : x;
  constexpr __int128 kLargest = 100'000'000'000'000'000;
  c = {c.over / divisor, c.under / divisor};
  if (c.over > kLargest || c.over < -kLargest || c.under > kLargest) return std::nullopt;
  return c;
}

std::string_view strip(std::string_view text) {
  constexpr char kSpace[] = " \t\n\r\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::vector<long> numbers;
  std::optional<long> claimed;

  std::optional<Fraction> parse() {
    const std::optional<Fraction> value = sum();
    if (take('=')) claimed = signed_integer();
    if (peek() != '\0') throw Malformed();
    return value;
  }

 private:
  char peek() {
    while (at_ < text_.size() && std::strchr(" \t\n\r\f\v", text_[at_]) != nullptr) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  bool is_digit() { return '0' <= peek() && peek() <= '9'; }
  long integer() {
    if (!is_digit()) throw Malformed();
    long value = 0;
    int digits = 0;
    for (; at_ < text_.size() && '0' <= text_[at_] && text_[at_] <= '9'; ++at_) {
      if (++digits > 64) throw Malformed();
      if (digits <= 9) value = 10 * value + (text_[at_] - '0');
    }
    // No row has such a number, so the answer is wrong whatever its value.
    return digits <= 9 ? value : -1;
  }
  long signed_integer() {
    int sign = 1;
    while (peek() == '-' || peek() == '+') sign *= text_[at_++] == '-' ? -1 : 1;
    return sign * integer();
  }
  std::optional<Fraction> sum() {
    std::optional<Fraction> value = product();
    while (peek() == '+' || peek() == '-') {
      const char op = text_[at_++];
      value = apply(op, value, product());
    }
    return value;
  }
  std::optional<Fraction> product() {
    std::optional<Fraction> value = factor();
    while (peek() == '*' || peek() == '/') {
      const char op = text_[at_++];
      value = apply(op, value, factor());
    }
    return value;
  }
  std::optional<Fraction> factor() {
    int sign = 1;
    while (peek() == '-' || peek() == '+') sign *= text_[at_++] == '-' ? -1 : 1;
    std::optional<Fraction> value;
    if (take('(')) {
      if (++depth_ > 64) throw Malformed();
      value = sum();
      --depth_;
      if (!take(')')) throw Malformed();
    } else {
      numbers.push_back(integer());
      value = Fraction{numbers.back(), 1};
    }
    return apply('*', Fraction{sign, 1}, value);
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

/// What stands in the last <answer> pair of the text that follows the thoughts.
std::string_view last_answer(std::string_view text) {
  const size_t left = text.rfind("</think>");
  if (left != text.npos) text.remove_prefix(left + 8);
  text = text.substr(0, text.find("<think>"));
  const size_t end = text.rfind("</answer>");
  if (end == text.npos) return {};
  const size_t begin = text.substr(0, end).rfind("<answer>");
  return begin == text.npos ? std::string_view() : strip(text.substr(begin + 8, end - begin - 8));
}

/// The integers of the JSON text behind a key, up to the end of its list or value.
std::vector<long> integers_of(std::string_view json, std::string_view key) {
  size_t at = json.find(key);
  if (at == json.npos) return {};
  at = json.find(':', at) + 1;
  const size_t end = std::min(json.find_first_of("]}", at), json.size());
  std::vector<long> found;
  while (at < end) {
    if (json[at] < '0' || json[at] > '9') {
      if (json[at] == ',' && !found.empty() && json.find('[') > at) break;
      ++at;
      continue;
    }
    long value = 0;
    for (; at < end && '0' <= json[at] && json[at] <= '9'; ++at)
      value = 10 * value + json[at] - '0';
    found.push_back(value);
  }
  return found;
}

void copy(std::string_view from, char (&to)[1024]) {
  const size_t size = std::min(from.size(), sizeof to - 1);
  std::memcpy(to, from.data(), size);
  to[size] = '\0';
}

void judge(const moerl_sample& sample, moerl_verdict& verdict) {
  const std::string_view response(sample.response.data, sample.response.size);
  const std::string_view row(sample.ground_truth.data, sample.ground_truth.size);
  std::vector<long> given = integers_of(row, "\"numbers\"");
  const std::vector<long> target = integers_of(row, "\"target\"");
  verdict.score = 0;
  if (given.empty() || target.empty()) {
    verdict.status = MOERL_GOLD_ERROR;
    copy("the row has no numbers or no target", verdict.detail);
    return;
  }
  const std::string_view answer = last_answer(response);
  copy(answer, verdict.extracted);
  if (answer.empty()) {
    verdict.status = MOERL_NO_ANSWER;
    return;
  }
  Parser parser(answer);
  try {
    const std::optional<Fraction> value = parser.parse();
    std::sort(given.begin(), given.end());
    std::sort(parser.numbers.begin(), parser.numbers.end());
    const bool is_right = parser.numbers == given && value && value->under == 1 &&
                          value->over == target[0] &&
                          (!parser.claimed || *parser.claimed == target[0]);
    verdict.status = is_right ? MOERL_CORRECT : MOERL_INCORRECT;
    verdict.score = (is_right ? 1.0 : 0.0) + 0.1;
  } catch (const Malformed&) {
    verdict.status = MOERL_UNPARSABLE;
  }
}

}  // namespace

extern "C" int32_t moerl_reward_abi_version(void) { return MOERL_REWARD_ABI_VERSION; }

extern "C" int32_t moerl_reward_score(const moerl_sample* samples, size_t count,
                                      moerl_verdict* verdicts) {
  for (size_t i = 0; i < count; ++i) judge(samples[i], verdicts[i]);
  return 0;
}
