#pragma once
#include <atomic>
#include <iosfwd>
#include <string>

#include "experiments/text_sampler.h"

namespace moerl {

/// The tokens of a prompt: the dialogue in the template, encoded; a system text goes in front.
/// @throws std::invalid_argument if the template has no place for a turn or the text is not UTF-8.
std::vector<int32_t> encode_chat(const LoadedTokenizer& tokenizer, const policy::ChatTemplate& chat,
                                 const std::string& system,
                                 std::vector<policy::ChatMessage> messages);

/// Samples completions of JSON lines {"prompt": "..."} or {"prompt" or "messages": [{"role",
/// "content"}, …]} and writes one line for each, rows in order and samples ascending: the row's own
/// fields, then sample_index, response (what `moerl judge` reads), finish_reason (stop or length),
/// token_ids and log_probs of the response. Row i has prompt id i.
/// @param source  name of the input for error texts.
/// @throws IoError before any work, listing every row that is no such object or leaves no room for
///   an answer; IoError if the output cannot be written.
void sample_rows(const OpenedModel& model, const policy::ChatTemplate& chat,
                 const std::string& system, TextSampler& sampler, int64_t n, std::istream& in,
                 const std::string& source, std::ostream& out, const std::atomic<bool>& stop);

}  // namespace moerl
