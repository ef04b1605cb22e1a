#include "experiments/openai/api_error.h"

#include <utility>

#include "common/json.h"

namespace moerl::openai {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

ApiError::ApiError(int status, std::string code, std::string param, const std::string& message)
    : std::runtime_error(message),
      status_(status),
      code_(std::move(code)),
      param_(std::move(param)) {}

std::string ApiError::json() const {
  using Json = nlohmann::ordered_json;
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  const Json error = {{"message", what()},
                      {"type", type_of(status_)},
                      {"param", or_null(param_)},
                      {"code", or_null(code_)}};
  return Json{{"error", error}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

ApiError bad_field(const std::string& param, const std::string& message) {
  return {400, "", param, message};
}

}  // namespace moerl::openai
