#include "common/json.h"

#include <set>
#include <vector>

#include "common/check.h"

template class nlohmann::basic_json<>;
template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace moerl {
namespace {

constexpr size_t kMaxDepth = 64;

/// Listens to the parser and builds nothing.
class Inspector : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Inspector(const std::string& name) : name_(name) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool key(string_t& key) override {
    if (!keys_.back().insert(key).second)
      throw IoError(concat(name_, ": the key '", key, "' is there twice, expected once"));
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    throw IoError(concat(name_, ": not JSON: ", error.what()));
  }

 private:
  bool enter() {
    if (keys_.size() == kMaxDepth)
      throw IoError(concat(name_, ": the JSON is nested deeper than ", kMaxDepth, " levels"));
    keys_.emplace_back();
    return true;
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }

  const std::string& name_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

}  // namespace

template <typename Json>
Json parse_json(std::string_view text) {
  return Json::parse(text);
}
template <typename Json>
Json try_parse_json(std::string_view text) {
  return Json::parse(text, nullptr, false);
}
template nlohmann::json parse_json(std::string_view);
template nlohmann::json try_parse_json(std::string_view);
template nlohmann::ordered_json parse_json(std::string_view);
template nlohmann::ordered_json try_parse_json(std::string_view);

void check_json(const std::string& name, std::string_view text) {
  Inspector inspector(name);
  nlohmann::json::sax_parse(text.begin(), text.end(), &inspector);
}

}  // namespace moerl
