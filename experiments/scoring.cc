#include "experiments/scoring.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "common/check.h"
#include "policy/token_scores.h"

namespace moerl {
namespace {

using Row = nlohmann::ordered_json;
constexpr size_t kMaxProblemsShown = 20;

struct ScoringRow {
  Row row;
  std::vector<int32_t> token_ids;
};

/// What is wrong with one row.
class RowError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string shown(const Row& value) {
  const std::string text = value.dump(-1, ' ', false, Row::error_handler_t::replace);
  return text.size() <= 60 ? text : concat("a JSON ", value.type_name());
}

std::vector<int32_t> ids_of(const Row& list, int64_t num_ids) {
  if (!list.is_array()) throw RowError("token_ids is " + shown(list) + ", expected a list of ids");
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const Row& id = list[i];
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(num_ids))
      throw RowError(
          concat("token_ids[", i, "] is ", shown(id), ", expected an id of 0 to ", num_ids - 1));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

class RowReader {
 public:
  RowReader(const OpenedModel& model, bool bare_text)
      : model_(model), config_(model.transformer->config()), bare_text_(bare_text) {}

  /// @throws RowError.
  ScoringRow read(const std::string& line) const {
    ScoringRow result;
    try {
      result.row = Row::parse(line);
    } catch (const Row::exception& error) {
      throw RowError(concat("not JSON: ", error.what()));
    }
    const Row& row = result.row;
    if (!row.is_object())
      throw RowError(concat("the line is ", shown(row), ", expected a JSON object"));
    const auto ids = row.find("token_ids"), text = row.find("text");
    if ((ids == row.end()) == (text == row.end()))
      throw RowError(concat("the row has ", ids == row.end() ? "neither" : "both",
                            " of token_ids and text, expected one of them"));
    result.token_ids =
        ids != row.end() ? ids_of(*ids, config_.sampled_vocab_size()) : encode(*text);
    const auto n = static_cast<int64_t>(result.token_ids.size());
    if (n == 0) throw RowError("the row has 0 tokens, expected at least 1");
    if (n > config_.max_position_embeddings)
      throw RowError(concat("the row has ", n, " tokens, expected at most the model's ",
                            config_.max_position_embeddings, " positions"));
    return result;
  }

 private:
  std::vector<int32_t> encode(const Row& text) const {
    if (!text.is_string()) throw RowError(concat("text is ", shown(text), ", expected a string"));
    const LoadedTokenizer& loaded = model_.need_tokenizer();
    const auto& content = text.get_ref<const std::string&>();
    try {
      return bare_text_ ? loaded.tokenizer.encode(content) : loaded.encode_framed(content);
    } catch (const std::invalid_argument& error) {
      throw RowError(error.what());
    }
  }

  const OpenedModel& model_;
  const ModelConfig& config_;
  bool bare_text_;
};

std::vector<ScoringRow> read_rows(const OpenedModel& model, bool bare_text, std::istream& in,
                                  const std::string& source) {
  const RowReader reader(model, bare_text);
  std::vector<ScoringRow> rows;
  std::string line, problems;
  size_t num_problems = 0;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      rows.push_back(reader.read(line));
    } catch (const RowError& error) {
      if (++num_problems <= kMaxProblemsShown)
        problems += concat("\n  ", source, ":", number, ": ", error.what());
    }
  }
  if (in.bad()) throw IoError(concat(source, ": cannot be read"));
  if (num_problems > kMaxProblemsShown)
    problems += concat("\n  and ", num_problems - kMaxProblemsShown, " more");
  if (num_problems > 0)
    throw IoError(concat(num_problems, " of the rows cannot be scored:", problems));
  return rows;
}

/// Doubles print with as many digits as give the same double again, so the float survives too.
Row aligned(const std::vector<float>& values) {
  Row list = Row::array();
  list.push_back(nullptr);
  for (float value : values) list.push_back(double{value});
  return list;
}

void write_row(ScoringRow& scored, const TokenScores& scores, const ScoringOptions& options,
               std::ostream& out) {
  Row& row = scored.row;
  const auto append = [&row](const char* key, Row value) {
    row.erase(key);
    row[key] = std::move(value);
  };
  append("token_ids", scored.token_ids);
  append("log_probs", aligned(scores.log_probs));
  if (options.entropy) append("entropy", aligned(scores.entropy));
  if (options.experts) append("experts", scores.experts);
  out << row.dump(-1, ' ', false, Row::error_handler_t::replace) << '\n';
  row = nullptr;
}

}  // namespace

std::string to_string(const ScoringSummary& s) {
  std::string text = concat(s.num_rows, " rows, ", s.num_tokens, " tokens");
  char numbers[160];
  if (s.num_log_probs > 0) {
    const double mean = s.sum_log_probs / static_cast<double>(s.num_log_probs);
    std::snprintf(numbers, sizeof numbers, ", mean log-prob %.6f, perplexity %.6g", mean,
                  std::exp(-mean));
    text += numbers;
  }
  std::snprintf(numbers, sizeof numbers, ", %.0f tokens/s",
                s.seconds > 0 ? static_cast<double>(s.num_tokens) / s.seconds : 0.0);
  return text + numbers;
}

ScoringSummary score_rows(ExecContext& ctx, const OpenedModel& model, const ScoringOptions& options,
                          std::istream& in, const std::string& source, std::ostream& out) {
  std::vector<ScoringRow> rows = read_rows(model, options.bare_text, in, source);
  const auto start = std::chrono::steady_clock::now();
  ScoringSummary summary;
  std::vector<std::vector<int32_t>> sequences;
  for (size_t begin = 0; begin < rows.size();) {
    // Scored and written in portions, so that memory holds the scores of one alone.
    size_t end = begin;
    int64_t tokens = 0;
    sequences.clear();
    while (end < rows.size() && (end == begin || tokens < options.max_tokens)) {
      sequences.push_back(rows[end].token_ids);
      tokens += static_cast<int64_t>(rows[end++].token_ids.size());
    }
    const std::vector<TokenScores> scores =
        score_tokens(ctx, *model.transformer, sequences,
                     {.temperature = static_cast<float>(options.temperature),
                      .max_tokens = options.max_tokens,
                      .with_experts = options.experts});
    for (size_t i = begin; i < end; ++i) {
      const TokenScores& score = scores[i - begin];
      for (float log_prob : score.log_probs) summary.sum_log_probs += log_prob;
      summary.num_log_probs += static_cast<int64_t>(score.log_probs.size());
      write_row(rows[i], score, options, out);
    }
    if (!out) throw IoError("the scores cannot be written");
    summary.num_tokens += tokens;
    begin = end;
  }
  out.flush();
  if (!out) throw IoError("the scores cannot be written");
  summary.num_rows = static_cast<int64_t>(rows.size());
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace moerl
