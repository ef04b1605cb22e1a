#pragma once
#include <map>
#include <string>
#include <vector>

#include "experiments/generation.h"

namespace moerl {

/// Accuracy over problems with n samples each, c of them correct, by data source:
///   val-core/<source>/acc/mean@n  mean of c / n
///   val-core/<source>/acc/best@n  share of problems with c >= 1
///   val-aux/<source>/response_length/mean, …/response_length/clip_ratio, …/no_answer_ratio
/// A sample that could not be scored counts as wrong here and in val-aux/<source>/unscorable_ratio.
std::map<std::string, double> validation_metrics(const std::vector<ScoredGroup>& groups);

}  // namespace moerl
