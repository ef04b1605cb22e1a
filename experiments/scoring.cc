#include "experiments/scoring.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <ostream>

#include "common/check.h"
#include "experiments/json_rows.h"
#include "policy/token_scores.h"

namespace moerl {
namespace {

struct ScoringRow {
  Row row;
  std::vector<int32_t> token_ids;
};

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
  ScoringRow read(Row row) const {
    const auto ids = row.find("token_ids"), text = row.find("text");
    if ((ids == row.end()) == (text == row.end()))
      throw RowError(concat("the row has ", ids == row.end() ? "neither" : "both",
                            " of token_ids and text, expected one of them"));
    std::vector<int32_t> token_ids =
        ids != row.end() ? ids_of(*ids, config_.sampled_vocab_size()) : encode(*text);
    const auto n = static_cast<int64_t>(token_ids.size());
    if (n == 0) throw RowError("the row has 0 tokens, expected at least 1");
    if (n > config_.max_position_embeddings)
      throw RowError(concat("the row has ", n, " tokens, expected at most the model's ",
                            config_.max_position_embeddings, " positions"));
    return {std::move(row), std::move(token_ids)};
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
  const RowReader reader(model, options.bare_text);
  std::vector<ScoringRow> rows;
  for_each_row(in, source, [&](Row row) { rows.push_back(reader.read(std::move(row))); });
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
