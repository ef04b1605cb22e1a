#pragma once
#include <stdexcept>
#include <string>

namespace moerl {

/// A file could not be read, written or understood; the text names the file.
class IoError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A recipe or a model configuration is not usable; the text lists every violation, one a line.
class ConfigError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// NaN or infinity where training needs a number; the text names the step and the quantity.
class NumericalError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A peer is lost, late or answered with an error status.
class RpcError : public std::runtime_error {
 public:
  RpcError(int code, const std::string& text) : std::runtime_error(text), code_(code) {}
  /// The grpc::StatusCode of the failure.
  int code() const { return code_; }

 private:
  int code_;
};

/// The request is well formed but there is no room for it now; try again later or elsewhere.
class ResourceExhausted : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The request does not fit the present state, such as a policy version that is not held.
class FailedPrecondition : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The caller gave up, or the time that it allowed has passed.
class Cancelled : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace moerl
