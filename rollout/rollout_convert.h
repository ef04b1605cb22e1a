#pragma once
#include "moerl/v1/rollout.pb.h"
#include "rollout/completion.h"
#include "rollout/engine.h"

namespace moerl {

/// Between the structs of this folder and the messages of rollout.proto. A top_p of 0 on the wire
/// is 1 in the struct.
v1::GenerateRequest to_proto(const GenerateRequest& request);
GenerateRequest from_proto(const v1::GenerateRequest& message);

v1::Completion to_proto(const Completion& completion);
/// @throws std::invalid_argument if the numbers of tokens and log-probabilities differ, or the
/// finish reason is unknown.
Completion from_proto(const v1::Completion& message);

v1::GetStatusResponse to_proto(const EngineStatus& status, const std::string& numeric_family);

}  // namespace moerl
