#include "reward/judge.h"

#include <cmath>
#include <deque>
#include <fstream>
#include <future>
#include <limits>
#include <optional>

#include "common/check.h"
#include "common/json.h"
#include "reward/scorer.h"
#include "reward/utf8.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

using Row = nlohmann::ordered_json;
constexpr int kRowsInWorkPerThread = 64;

std::string dump(const Row& value) {
  return value.dump(-1, ' ', false, Row::error_handler_t::replace);
}

std::string text_of(const Row& row, const char* key) {
  const auto it = row.find(key);
  return it != row.end() && it->is_string() ? it->get<std::string>() : std::string();
}

/// The value of a key; null if there is none.
const Row& value_of(const Row& row, const char* key) {
  static const Row kNull;
  const auto it = row.find(key);
  return it == row.end() ? kNull : *it;
}

int64_t to_integer(const Row& value, const std::string& name, int64_t max) {
  const bool is_integer = value.is_number_integer() && value.get<int64_t>() >= 0 &&
                          (!value.is_number_unsigned() || value.get<uint64_t>() < (1ULL << 63));
  if (!is_integer || value.get<int64_t>() > max)
    throw IoError(concat(name, " is ", truncate_utf8(dump(value), 80),
                         ", expected an integer from 0 to ", max));
  return value.get<int64_t>();
}

int64_t length_of(const Row& row, const char* key, const std::string& name) {
  const Row& value = value_of(row, key);
  return value.is_null() ? -1 : to_integer(value, name, int64_t{1} << 40);
}

std::optional<bool> truth_of(const Row& row, const char* key, const std::string& name) {
  const Row& value = value_of(row, key);
  if (value.is_null()) return std::nullopt;
  if (!value.is_boolean())
    throw IoError(concat(name, " is ", truncate_utf8(dump(value), 80), ", expected true or false"));
  return value.get<bool>();
}

GroupMember to_member(const Row& row) {
  if (!row.is_object())
    throw IoError(concat("a member of group is a JSON ", row.type_name(), ", expected an object"));
  return {.num_tokens = length_of(row, "num_tokens", "group: num_tokens"),
          .num_characters = length_of(row, "num_characters", "group: num_characters"),
          .is_correct = truth_of(row, "is_correct", "group: is_correct").value_or(false)};
}

/// @throws IoError naming `place`.
Row parse_row(const std::string& line, const std::string& place) {
  Row row;
  try {
    row = Row::parse(line);
  } catch (const Row::parse_error& error) {
    throw IoError(concat(place, ": not JSON: ", error.what()));
  }
  auto require = [&](bool condition, const auto&... parts) {
    if (!condition) throw IoError(concat(place, ": ", parts...));
  };
  require(row.is_object(), "the line is a JSON ", row.type_name(), ", expected an object");
  require(row.contains("response"), "there is no key 'response'");
  require(row["response"].is_string(), "response is a JSON ", row["response"].type_name(),
          ", expected a string");
  const auto extra = row.find("extra_info");
  require(extra == row.end() || extra->is_object() || extra->is_null(), "extra_info is a JSON ",
          extra == row.end() ? "" : extra->type_name(), ", expected an object");
  return row;
}

/// @throws IoError for a fact of the wrong type.
Sample to_sample(const Row& row) {
  Sample sample;
  sample.response = text_of(row, "response");
  const Row& truth = value_of(row, "ground_truth");
  sample.ground_truth =
      truth.is_string() || truth.is_null() ? text_of(row, "ground_truth") : dump(truth);
  if (const Row& extra = value_of(row, "extra_info"); extra.is_object())
    sample.extra_info_json = dump(extra);
  sample.data_source = text_of(row, "data_source");
  sample.prompt = text_of(row, "prompt");
  sample.num_tokens = length_of(row, "num_tokens", "num_tokens");
  sample.is_correct = truth_of(row, "is_correct", "is_correct");
  if (const Row& ids = value_of(row, "token_ids"); ids.is_array()) {
    for (const Row& id : ids)
      sample.token_ids.push_back(
          static_cast<int32_t>(to_integer(id, "a token id", std::numeric_limits<int32_t>::max())));
  } else if (!ids.is_null()) {
    throw IoError(concat("token_ids is a JSON ", ids.type_name(), ", expected a list"));
  }
  // Other tables have a column of this name for something else.
  if (const Row& group = value_of(row, "group"); group.is_array())
    for (const Row& member : group) sample.group.push_back(to_member(member));
  return sample;
}

/// @throws IoError naming `place`.
Sample sample_of(const Row& row, const std::string& place) {
  try {
    return to_sample(row);
  } catch (const IoError& error) {
    throw IoError(concat(place, ": ", error.what()));
  }
}

/// 1 and 0 for truth values; empty if the label is neither that nor a number.
std::optional<double> label_value(const Row& label) {
  if (label.is_boolean()) return label.get<bool>() ? 1 : 0;
  if (label.is_number()) return label.get<double>();
  return std::nullopt;
}

/// The text in a column of so many characters, on one line, cut with an ellipsis.
std::string pad(const std::string& text, size_t width) {
  std::string out;
  size_t count = 0;
  const std::string valid = to_valid_utf8(text);
  for (size_t at = 0; at < valid.size();) {
    size_t end = at + 1;
    while (end < valid.size() && (static_cast<unsigned char>(valid[end]) & 0xC0) == 0x80) ++end;
    if (count + 2 >= width) {
      out += "…";
      ++count;
      break;
    }
    const std::string_view character = std::string_view(valid).substr(at, end - at);
    out +=
        character.size() == 1 && static_cast<unsigned char>(character[0]) < 0x20 ? " " : character;
    ++count;
    at = end;
  }
  out.append(width > count ? width - count : 0, ' ');
  return out;
}

/// Columns as a line without spaces at its end.
std::string table_line(std::initializer_list<std::pair<std::string, size_t>> columns) {
  std::string line;
  for (const auto& [text, width] : columns) line += pad(text, width);
  line.erase(line.find_last_not_of(' ') + 1);
  return line + '\n';
}

/// Keeps rows in order: writes from the front as the verdicts come.
class OrderedOutput {
 public:
  OrderedOutput(const JudgeConfig& config, std::ostream& out, std::ostream* report, size_t max_open)
      : config_(config), out_(out), report_(report), max_open_(max_open) {}

  void push(uint64_t line, Row row, std::future<Verdict> verdict) {
    open_.push_back({line, std::move(row), std::move(verdict)});
    while (open_.size() >= max_open_) write_front();
  }
  void flush() {
    while (!open_.empty()) write_front();
    out_.flush();
    check_output();
  }
  JudgeSummary summary() const {
    JudgeSummary summary = summary_;
    if (num_scorable_ > 0) summary.mean_score = score_sum_ / static_cast<double>(num_scorable_);
    return summary;
  }

 private:
  void write_front() {
    auto& [line, row, future] = open_.front();
    const Verdict verdict = future.get();
    compare(line, row, verdict);
    ++summary_.num_rows;
    ++summary_.num_by_status[verdict.status];
    if (!is_unscorable(verdict)) {
      ++num_scorable_;
      score_sum_ += verdict.score;
    }
    auto append = [&row = row](const std::string& key, Row value) {
      row.erase(key);
      row[key] = std::move(value);
    };
    append("score", verdict.score);
    append("status", std::string(status_name(verdict.status)));
    append("extracted", verdict.extracted);
    for (const auto& [name, value] : verdict.parts) append(name, value);
    if (!verdict.detail.empty()) append("detail", verdict.detail);
    out_ << dump(row) << '\n';
    check_output();
    open_.pop_front();
  }
  void compare(uint64_t line, const Row& row, const Verdict& verdict) {
    if (config_.label.empty()) return;
    const auto label = row.find(config_.label);
    const std::optional<double> wanted = label == row.end() ? std::nullopt : label_value(*label);
    if (!wanted) {
      ++summary_.num_unlabelled;
      return;
    }
    // A truth value is held against the status, a number against the score.
    const bool is_truth = label->is_boolean();
    const bool agrees = !is_unscorable(verdict) &&
                        (is_truth ? (verdict.status == VerdictStatus::kCorrect) == (*wanted == 1)
                                  : std::abs(verdict.score - *wanted) <= config_.label_tolerance);
    ++(agrees ? summary_.num_agreeing : summary_.num_disagreeing);
    if (agrees || report_ == nullptr) return;
    if (summary_.num_disagreeing == 1)
      *report_ << table_line({{"line", 8},
                              {"label", 9},
                              {"verdict", 16},
                              {"score", 9},
                              {"extracted", 28},
                              {"ground truth", 28},
                              {"detail", 60}});
    *report_ << table_line({{std::to_string(line), 8},
                            {dump(*label), 9},
                            {std::string(status_name(verdict.status)), 16},
                            {concat(verdict.score), 9},
                            {verdict.extracted, 28},
                            {text_of(row, "ground_truth"), 28},
                            {verdict.detail, 60}});
  }
  void check_output() {
    if (!out_) throw IoError("judge: the output cannot be written");
  }

  const JudgeConfig& config_;
  std::ostream& out_;
  std::ostream* const report_;
  const size_t max_open_;
  struct OpenRow {
    uint64_t line;
    Row row;
    std::future<Verdict> verdict;
  };

  std::deque<OpenRow> open_;
  JudgeSummary summary_;
  uint64_t num_scorable_ = 0;
  double score_sum_ = 0;
};

}  // namespace

std::string to_string(const JudgeSummary& summary) {
  std::string text = concat(summary.num_rows, " rows, mean score ", summary.mean_score);
  for (const auto& [status, count] : summary.num_by_status)
    text += concat(", ", status_name(status), " ", count);
  const uint64_t labelled = summary.num_agreeing + summary.num_disagreeing;
  if (labelled + summary.num_unlabelled > 0)
    text += concat("; ", summary.num_agreeing, " of ", labelled, " labels agree");
  if (summary.num_unlabelled > 0) text += concat(", ", summary.num_unlabelled, " rows have none");
  return text;
}

JudgeSummary judge(std::shared_ptr<const VerifierRegistry> registry, const JudgeConfig& config,
                   std::istream& in, const std::string& source, std::ostream& out,
                   std::ostream* report) {
  registry->get(config.verifier)->check_options(config.options);
  ScorerConfig scorer_config;
  scorer_config.num_threads = config.num_threads;
  scorer_config.deadline_ms = config.deadline_ms;
  Scorer scorer(std::move(registry), scorer_config);
  OrderedOutput output(config, out, report, size_t{kRowsInWorkPerThread} * config.num_threads);

  std::string line;
  for (uint64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Row row;
    Sample sample;
    const std::string place = concat(source, ":", number);
    try {
      row = parse_row(line, place);
      sample = sample_of(row, place);
    } catch (const IoError&) {
      output.flush();
      throw;
    }
    auto promise = std::make_shared<std::promise<Verdict>>();
    auto verdict = promise->get_future();
    scorer.submit({number, config.verifier, std::move(sample), config.options}, {},
                  [promise](std::exception_ptr error, Verdict result) {
                    if (error)
                      promise->set_exception(error);
                    else
                      promise->set_value(std::move(result));
                  });
    output.push(number, std::move(row), std::move(verdict));
  }
  if (in.bad()) throw IoError(concat(source, ": cannot be read"));
  output.flush();
  return output.summary();
}

JudgeSummary judge_file(std::shared_ptr<const VerifierRegistry> registry, const JudgeConfig& config,
                        const std::filesystem::path& path, std::ostream& out,
                        std::ostream* report) {
  std::ifstream in(path);
  if (!in || std::filesystem::is_directory(path))
    throw IoError(concat(path.string(), ": cannot be opened for reading"));
  return judge(std::move(registry), config, in, path.string(), out, report);
}

}  // namespace moerl::reward
