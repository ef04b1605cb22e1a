#pragma once
#include <vector>

#include "policy/grpo/grpo_trainer.h"
#include "policy/parallel/communicator.h"

namespace moerl {

/// Rank 0's samples and data cursor, on every rank.
void share_samples(Communicator& comm, std::vector<GrpoSample>& samples, int64_t& prompts_drawn);

}  // namespace moerl
