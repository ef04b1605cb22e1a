#pragma once
#include <cstdint>
#include <iosfwd>
#include <string>

#include "experiments/open_model.h"

namespace moerl {

struct ScoringOptions {
  double temperature = 1;     ///< > 0
  int64_t max_tokens = 4096;  ///< of one forward; changes speed and memory only
  bool entropy = false;       ///< also print each distribution's entropy
  bool experts = false;       ///< also print the experts that ran for each token
  bool bare_text = false;     ///< text rows without the tokenizer's BOS and the like
};

struct ScoringSummary {
  int64_t num_rows = 0, num_tokens = 0;
  int64_t num_log_probs = 0;  ///< tokens that have one: all but each row's first
  double sum_log_probs = 0;   ///< nats
  double seconds = 0;         ///< of the forwards and the output, without loading the model
};
/// One line for people: rows, tokens, mean log-prob, perplexity, tokens a second.
std::string to_string(const ScoringSummary& summary);

/// Scores JSON lines {"token_ids": [...]} or {"text": "..."} and writes each back, in order, as one
/// line: its own fields, then
///   token_ids  of the row;
///   log_probs  [n], nats: log_probs[i] = log p(token i | tokens before it), null at i = 0;
///   entropy    [n], nats, of the distribution that token i was drawn from, null at i = 0 (asked);
///   experts    [n][MoE layers][K]: expert ids that ran for token i, in the router's order (asked).
/// A field of the row with such a name is replaced. Numbers are printed so that reading them gives
/// the same float again. Blank lines are skipped. Text is encoded inside the tokenizer's frame
/// (LoadedTokenizer::frame).
/// @param source  name of the input for error texts.
/// @throws IoError before any work, listing source:line of every row that is no such object, has no
///   token, an id that is none, or more tokens than the model has positions; IoError if the output
///   cannot be written; NumericalError.
ScoringSummary score_rows(ExecContext& ctx, const OpenedModel& model, const ScoringOptions& options,
                          std::istream& in, const std::string& source, std::ostream& out);

}  // namespace moerl
