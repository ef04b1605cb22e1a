#pragma once
#include <stdexcept>
#include <string>
#include <vector>

#include "reward/sample.h"
#include "reward/verdict.h"

namespace moerl::reward {

/// The JSON object of one sample on one line, without its end: id, response, ground_truth,
/// extra_info (an object), data_source, prompt, num_tokens, token_ids, is_correct, group, options.
/// What is not known is null. Texts are made valid UTF-8.
std::string sample_to_json(const Sample& sample, const Options& options, uint64_t id);
/// The list of such objects, with ids from 0.
std::string batch_to_json(const std::vector<const Sample*>& samples, const Options& options);

/// The verdict of one answer; see PluginVerifier.
/// @param name  of the part that holds the score.
/// @param id    that the answer must carry if it carries one.
/// @throws std::invalid_argument saying what was got and what is expected.
Verdict verdict_from_json(const std::string& name, const std::string& text, uint64_t id);
/// The verdicts of a list of answers, by sample. An answer that is not one becomes kInternalError.
/// @throws std::invalid_argument if the text is no list of `count` answers, or is {"error": text}.
std::vector<Verdict> batch_from_json(const std::string& name, const std::string& text,
                                     size_t count);

}  // namespace moerl::reward
