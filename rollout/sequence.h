#pragma once
#include <cstdint>
#include <deque>
#include <vector>

#include "kernels/tensor.h"

namespace moerl {

struct PromptGroup;

enum class SequenceStatus : uint8_t {
  kWaiting,   ///< holds no blocks; new, or preempted with tokens to recompute
  kRunning,   ///< holds the blocks of its positions [0, computed)
  kFinished,  ///< holds no blocks
};

/// One completion in the making: the only mutable state of a sequence.
struct Sequence {
  PromptGroup* group = nullptr;
  int64_t sample_index = 0;
  std::vector<int32_t> tokens;       ///< sampled so far; preemption keeps them
  std::vector<float> log_probs;      ///< one for each sampled token
  std::vector<int32_t> block_table;  ///< of the key-value cache; empty unless running
  int64_t computed = 0;              ///< positions whose keys and values are in the cache
  SequenceStatus status = SequenceStatus::kWaiting;

  /// Prompt and sampled tokens; the next token gets this position.
  int64_t length() const;
  int32_t token(int64_t position) const;
};

/// A prompt and its sequences, which share the prompt's key-value blocks. While sequences wait, the
/// group holds the blocks of the computed prompt, from which they start without computing it again.
struct PromptGroup {
  uint64_t prompt_id = 0;
  std::vector<int32_t> prompt;
  std::vector<Sequence> sequences;  ///< never resized: others point into it
  int64_t max_positions = 0;        ///< length that no sequence exceeds
  void* owner = nullptr;            ///< the request, for whoever added the group

  std::vector<int32_t> block_table;  ///< the group's own hold on the prompt's blocks; may be empty
  int64_t computed = 0;              ///< prompt positions computed in block_table
  /// Last hidden state of the prompt, [1, D]: every first token is drawn from it.
  Tensor last_hidden;

  // The scheduler's lists, ascending by sample.
  std::deque<Sequence*> waiting;
  std::vector<Sequence*> running;
  uint64_t age = 0;  ///< order of arrival

  int64_t prompt_length() const { return static_cast<int64_t>(prompt.size()); }
};

inline int64_t Sequence::length() const {
  return group->prompt_length() + static_cast<int64_t>(tokens.size());
}

inline int32_t Sequence::token(int64_t position) const {
  const int64_t prompt_length = group->prompt_length();
  return position < prompt_length ? group->prompt[static_cast<size_t>(position)]
                                  : tokens[static_cast<size_t>(position - prompt_length)];
}

}  // namespace moerl
