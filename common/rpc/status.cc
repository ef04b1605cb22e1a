#include "common/rpc/status.h"

#include "common/check.h"

namespace moerl::rpc {

grpc::Status to_grpc_status(std::exception_ptr error) {
  if (!error) return grpc::Status::OK;
  try {
    std::rethrow_exception(error);
  } catch (const std::invalid_argument& e) {
    return {grpc::StatusCode::INVALID_ARGUMENT, e.what()};
  } catch (const ConfigError& e) {
    return {grpc::StatusCode::INVALID_ARGUMENT, e.what()};
  } catch (const ResourceExhausted& e) {
    return {grpc::StatusCode::RESOURCE_EXHAUSTED, e.what()};
  } catch (const FailedPrecondition& e) {
    return {grpc::StatusCode::FAILED_PRECONDITION, e.what()};
  } catch (const Cancelled& e) {
    return {grpc::StatusCode::CANCELLED, e.what()};
  } catch (const RpcError& e) {
    return {static_cast<grpc::StatusCode>(e.code()), e.what()};
  } catch (const std::exception& e) {
    return {grpc::StatusCode::INTERNAL, e.what()};
  } catch (...) {
    return {grpc::StatusCode::INTERNAL, "unknown error"};
  }
}

void throw_if_error(const grpc::Status& status, const std::string& what) {
  if (status.ok()) return;
  const std::string text = concat(what, ": ", status.error_message());
  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
      throw std::invalid_argument(text);
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      throw ResourceExhausted(text);
    case grpc::StatusCode::FAILED_PRECONDITION:
      throw FailedPrecondition(text);
    case grpc::StatusCode::CANCELLED:
      throw Cancelled(text);
    default:
      throw RpcError(status.error_code(), text);
  }
}

}  // namespace moerl::rpc
