#pragma once
#include <grpcpp/support/status.h>

#include <exception>
#include <string>

namespace moerl::rpc {

/// The status that a handler answers with for an exception; null means OK. The only such mapping:
/// std::invalid_argument and ConfigError to INVALID_ARGUMENT, ResourceExhausted to
/// RESOURCE_EXHAUSTED, FailedPrecondition to FAILED_PRECONDITION, Cancelled to CANCELLED, RpcError
/// to its own code, anything else to INTERNAL.
grpc::Status to_grpc_status(std::exception_ptr error);

/// The other way, for clients. @throws nothing if the status is OK; else the type that
/// to_grpc_status maps from, with `what` (such as "rollout worker host:port: Generate") before the
/// peer's message; RpcError for UNAVAILABLE, DEADLINE_EXCEEDED and the rest.
void throw_if_error(const grpc::Status& status, const std::string& what);

}  // namespace moerl::rpc
