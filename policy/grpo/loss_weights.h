#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace moerl {

/// Weight of each token of sequence i in the loss, so that the loss of a mini-batch is one weighted
/// sum over its tokens and does not depend on how they are split into micro-batches. With T_i the
/// tokens of sequence i and B the number of sequences of the whole mini-batch:
///
///   token-mean                1 / sum_j T_j
///   seq-mean-token-mean       1 / (B T_i)
///   seq-mean-token-sum        1 / B
///   seq-mean-token-sum-norm   1 / (B C), C = scale_factor
///
/// @param lengths  tokens in the loss; 0 leaves a sequence out of B as well (it is masked).
std::vector<double> loss_weights(std::span<const int64_t> lengths, const std::string& loss_agg_mode,
                                 double scale_factor);

}  // namespace moerl
