#include "experiments/openai/field_reader.h"

#include <cmath>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/json.h"
#include "experiments/openai/api_error.h"

namespace moerl::openai {
namespace {

[[noreturn]] void refuse(const std::string& path, const Json& got, const std::string& expected) {
  throw bad_field(path, concat(path, " is ", described(got), ", expected ", expected));
}

}  // namespace

Json parse_object(std::string_view body) {
  Json object;
  try {
    check_json("the body", body);
    object = parse_json(body);
  } catch (const std::exception& error) {
    // Without the parser's own name and number of the error.
    std::string text = error.what();
    if (const size_t at = text.find("[json.exception"); at != std::string::npos)
      text.erase(at, text.find("] ", at) + 2 - at);
    throw ApiError(400, "", "", text);
  }
  if (!object.is_object())
    throw ApiError(400, "", "",
                   concat("the body is ", described(object), ", expected a JSON object"));
  return object;
}

std::string described(const Json& value) {
  constexpr size_t kShort = 60;
  if (value.is_object()) return concat("an object of ", value.size(), " fields");
  if (value.is_array()) return concat("a list of ", value.size(), " items");
  if (value.is_string() && value.get_ref<const std::string&>().size() > kShort)
    return concat("a string of ", value.get_ref<const std::string&>().size(), " bytes");
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

FieldReader::FieldReader(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {
  if (!object.is_object()) refuse(path_, object, "an object");
}

std::string FieldReader::path_of(const std::string& name) const {
  return path_.empty() ? name : path_ + "." + name;
}

const Json* FieldReader::find(const std::string& name) {
  taken_.insert(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<bool> FieldReader::boolean(const std::string& name) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(path_of(name), *value, "true or false");
  return value->get<bool>();
}

std::optional<int64_t> FieldReader::integer(const std::string& name, int64_t low, int64_t high) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const bool fits =
      value->is_number_integer() &&
      (!value->is_number_unsigned() ||
       value->get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  if (!fits || value->get<int64_t>() < low || value->get<int64_t>() > high)
    refuse(path_of(name), *value, concat("an integer from ", low, " to ", high));
  return value->get<int64_t>();
}

std::optional<double> FieldReader::number(const std::string& name, double low, double high,
                                          bool high_included) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const double x = value->is_number() ? value->get<double>() : std::nan("");
  if (!(x >= low && (high_included ? x <= high : x < high)))
    refuse(path_of(name), *value,
           concat("a number from ", low, high_included ? " to " : " to below ", high));
  return x;
}

std::optional<uint64_t> FieldReader::seed(const std::string& name) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) refuse(path_of(name), *value, "an integer of 64 bits");
  return value->is_number_unsigned() ? value->get<uint64_t>()
                                     : static_cast<uint64_t>(value->get<int64_t>());
}

std::optional<std::string> FieldReader::text(const std::string& name) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(path_of(name), *value, "a string");
  return value->get<std::string>();
}

std::vector<int32_t> FieldReader::ids(const std::string& name) {
  const Json* value = find(name);
  return value == nullptr ? std::vector<int32_t>() : read_ids(*value, path_of(name));
}

void FieldReader::ignore(const std::string& name) { taken_.insert(name); }

void FieldReader::neutral(const std::string& name, const std::vector<Json>& values) {
  const Json* value = find(name);
  if (value == nullptr) return;
  std::string expected;
  for (const Json& allowed : values) {
    if (*value == allowed) return;
    expected += (expected.empty() ? "" : " or ") + allowed.dump();
  }
  refuse(path_of(name), *value, expected + ": anything else is not supported");
}

void FieldReader::finish() const {
  for (const auto& item : object_.items())
    if (!taken_.contains(item.key())) {
      const std::string path = path_of(item.key());
      throw ApiError(400, "unknown_parameter", path.size() <= 80 ? path : "",
                     concat(path.size() <= 80 ? path : concat("a field of ", path.size(), " bytes"),
                            " is not supported; this server does not know what it would change"));
    }
}

std::vector<int32_t> read_ids(const Json& list, const std::string& path) {
  if (!list.is_array()) refuse(path, list, "a list of token ids");
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& id = list[i];
    if (!id.is_number_unsigned() ||
        id.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int32_t>::max()))
      refuse(concat(path, "[", i, "]"), id, "a token id");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace moerl::openai
