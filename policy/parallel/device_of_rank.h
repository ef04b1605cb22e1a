#pragma once
#include <string>

#include "policy/parallel/communicator.h"

namespace moerl {

/// This process among the ranks of its machine, from 0. Called by all ranks.
int rank_on_machine(Communicator& comm);

/// What CUDA_VISIBLE_DEVICES has to be in one of several processes of a machine, so that each of
/// them sees one device of its own.
/// @param visible  what it is; null if it is not set. A single device was given to this process by
///   the launcher, and remains.
/// @throws ConfigError if there are fewer devices than ranks.
std::string device_of_rank(const char* visible, int rank_on_machine);

}  // namespace moerl
