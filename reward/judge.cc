#include "reward/judge.h"

#include <cmath>
#include <deque>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/check.h"
#include "reward/scorer.h"
#include "reward/utf8.h"

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

std::vector<int32_t> integers_of(const Row& list) {
  std::vector<int32_t> out;
  if (list.is_array())
    for (const Row& each : list)
      if (each.is_number_integer()) out.push_back(each.get<int32_t>());
  return out;
}

GroupMember to_member(const Row& row) {
  GroupMember member;
  if (!row.is_object()) return member;
  if (const auto it = row.find("num_tokens"); it != row.end() && it->is_number_integer())
    member.num_tokens = it->get<int64_t>();
  if (const auto it = row.find("num_characters"); it != row.end() && it->is_number_integer())
    member.num_characters = it->get<int64_t>();
  if (const auto it = row.find("is_correct"); it != row.end() && it->is_boolean())
    member.is_correct = it->get<bool>();
  return member;
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

Sample to_sample(const Row& row) {
  Sample sample;
  sample.response = text_of(row, "response");
  sample.ground_truth = text_of(row, "ground_truth");
  if (const auto it = row.find("ground_truth");
      it != row.end() && !it->is_string() && !it->is_null())
    sample.ground_truth = dump(*it);
  if (const auto it = row.find("extra_info"); it != row.end() && it->is_object())
    sample.extra_info_json = dump(*it);
  sample.data_source = text_of(row, "data_source");
  sample.prompt = text_of(row, "prompt");
  if (const auto it = row.find("num_tokens"); it != row.end() && it->is_number_integer())
    sample.num_tokens = it->get<int64_t>();
  if (const auto it = row.find("is_correct"); it != row.end() && it->is_boolean())
    sample.is_correct = it->get<bool>();
  if (const auto it = row.find("token_ids"); it != row.end()) sample.token_ids = integers_of(*it);
  if (const auto it = row.find("group"); it != row.end() && it->is_array())
    for (const Row& member : *it) sample.group.push_back(to_member(member));
  return sample;
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
    try {
      row = parse_row(line, concat(source, ":", number));
    } catch (const IoError&) {
      output.flush();
      throw;
    }
    auto promise = std::make_shared<std::promise<Verdict>>();
    auto verdict = promise->get_future();
    scorer.submit({number, config.verifier, to_sample(row), config.options}, {},
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
