#include "reward/judge.h"

#include <deque>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "common/check.h"
#include "reward/scorer.h"

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
  return sample;
}

/// Keeps rows in order: writes from the front as the verdicts come.
class OrderedOutput {
 public:
  OrderedOutput(std::ostream& out, size_t max_open) : out_(out), max_open_(max_open) {}

  void push(Row row, std::future<Verdict> verdict) {
    open_.emplace_back(std::move(row), std::move(verdict));
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
    auto& [row, future] = open_.front();
    const Verdict verdict = future.get();
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
  void check_output() {
    if (!out_) throw IoError("judge: the output cannot be written");
  }

  std::ostream& out_;
  const size_t max_open_;
  std::deque<std::pair<Row, std::future<Verdict>>> open_;
  JudgeSummary summary_;
  uint64_t num_scorable_ = 0;
  double score_sum_ = 0;
};

}  // namespace

std::string to_string(const JudgeSummary& summary) {
  std::string text = concat(summary.num_rows, " rows, mean score ", summary.mean_score);
  for (const auto& [status, count] : summary.num_by_status)
    text += concat(", ", status_name(status), " ", count);
  return text;
}

JudgeSummary judge(std::shared_ptr<const VerifierRegistry> registry, const JudgeConfig& config,
                   std::istream& in, const std::string& source, std::ostream& out) {
  registry->get(config.verifier)->check_options(config.options);
  ScorerConfig scorer_config;
  scorer_config.num_threads = config.num_threads;
  scorer_config.deadline_ms = config.deadline_ms;
  Scorer scorer(std::move(registry), scorer_config);
  OrderedOutput output(out, size_t{kRowsInWorkPerThread} * config.num_threads);

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
    output.push(std::move(row), std::move(verdict));
  }
  if (in.bad()) throw IoError(concat(source, ": cannot be read"));
  output.flush();
  return output.summary();
}

JudgeSummary judge_file(std::shared_ptr<const VerifierRegistry> registry, const JudgeConfig& config,
                        const std::filesystem::path& path, std::ostream& out) {
  std::ifstream in(path);
  if (!in || std::filesystem::is_directory(path))
    throw IoError(concat(path.string(), ": cannot be opened for reading"));
  return judge(std::move(registry), config, in, path.string(), out);
}

}  // namespace moerl::reward
