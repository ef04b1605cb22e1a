#pragma once
#include <stdexcept>
#include <string>

namespace moerl::openai {

/// A request that is refused, as OpenAI's clients expect to hear of it. The text goes to the
/// client: it speaks of the request only.
class ApiError : public std::runtime_error {
 public:
  /// @param status  of HTTP; it decides `error.type`.
  /// @param code    OpenAI's word for the mistake, such as model_not_found; may be empty.
  /// @param param   field of the request; may be empty.
  ApiError(int status, std::string code, std::string param, const std::string& message);

  int status() const { return status_; }
  /// {"error": {"message", "type", "param", "code"}}.
  std::string json() const;

 private:
  int status_;
  std::string code_, param_;
};

/// 400: a field has a value that it must not have; the message names the field, got and expected.
ApiError bad_field(const std::string& param, const std::string& message);

}  // namespace moerl::openai
