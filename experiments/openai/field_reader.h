#pragma once
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/json.h"

namespace moerl::openai {

using Json = nlohmann::ordered_json;

/// Parses a request's body. @throws ApiError 400 unless it is a JSON object without repeated keys
/// and nested at most 64 deep.
Json parse_object(std::string_view body);

/// A value for an error text: short ones as they are, others by kind and size.
std::string described(const Json& value);

/// Takes the fields of one JSON object one by one; what nobody took is unknown. All members throw
/// ApiError 400 naming the field, what was got and what was expected.
class FieldReader {
 public:
  /// @param path  how errors call the object, such as "messages[2]"; empty for the request itself.
  /// The object is borrowed.
  FieldReader(const Json& object, std::string path);

  /// The field's value, or null if it is absent or null.
  const Json* find(const std::string& name);
  std::optional<bool> boolean(const std::string& name);
  std::optional<int64_t> integer(const std::string& name, int64_t low, int64_t high);
  /// @param high_included  whether `high` itself is allowed.
  std::optional<double> number(const std::string& name, double low, double high,
                               bool high_included = true);
  /// Any 64-bit integer; negative ones are taken modulo 2^64.
  std::optional<uint64_t> seed(const std::string& name);
  std::optional<std::string> text(const std::string& name);
  /// A list of ids that are >= 0 and below 2^31.
  std::vector<int32_t> ids(const std::string& name);

  /// The field is ignored, whatever it is.
  void ignore(const std::string& name);
  /// The field may only have one of these values, which change nothing.
  void neutral(const std::string& name, const std::vector<Json>& values);
  /// Refuses what was not taken.
  void finish() const;

  /// "messages[2].role".
  std::string path_of(const std::string& name) const;

 private:
  const Json& object_;
  std::string path_;
  std::set<std::string> taken_;
};

/// @throws ApiError 400 unless the list holds ids that are >= 0 and below 2^31.
std::vector<int32_t> read_ids(const Json& list, const std::string& path);

}  // namespace moerl::openai
