#pragma once
#include <functional>

#include "policy/parallel/communicator.h"
#include "rollout/engine.h"

namespace moerl {

/// Sampling with a model whose experts are spread over ranks: runs `body` on rank 0, and meanwhile
/// steps the engines of all ranks together, so that the experts of each are at hand whenever one of
/// them has work. Called by all ranks; returns when body has returned and no engine has work left.
/// An error on one rank ends all (Communicator::abort).
/// @param comm  of the model's experts. @param engine  this rank's, without a thread.
void step_together(Communicator& comm, Engine& engine, const std::function<void()>& body);

}  // namespace moerl
