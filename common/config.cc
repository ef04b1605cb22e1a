#include "common/config.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <set>

#include "common/check.h"
#include "common/file.h"

namespace moerl {
namespace {

std::string show(const YAML::Node& node) {
  if (node.IsNull()) return "null";
  if (node.IsScalar()) return "'" + node.Scalar() + "'";
  return node.IsMap() ? "a mapping" : "a list";
}

std::string show(Range range) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (range.min == kPositive.min && range.max == kInfinity) return "> 0";
  if (range.max == kInfinity) return concat(">= ", range.min);
  if (range.min == -kInfinity) return concat("<= ", range.max);
  return concat("in [", range.min, ", ", range.max, "]");
}

template <typename T>
bool parse_number(const std::string& text, T& value) {
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  const std::from_chars_result result = std::from_chars(begin, end, value);
  return result.ec == std::errc() && result.ptr == end && begin != end;
}

bool parse_integer(const std::string& text, int64_t& value) {
  if (parse_number(text, value)) return true;
  double real = 0;  // 1e6 is a common way to write a count
  if (!parse_number(text, real) || std::floor(real) != real || std::abs(real) > 0x1p53)
    return false;
  value = static_cast<int64_t>(real);
  return true;
}

class Reader final : public FieldVisitor {
 public:
  explicit Reader(const YAML::Node& root) { scopes_.push_back({root, "", {}}); }

  void field(std::string_view name, bool& value) override {
    const YAML::Node node = take(name);
    if (!node) return;
    const std::string text = node.IsScalar() ? node.Scalar() : "";
    if (text == "true" || text == "True") {
      value = true;
    } else if (text == "false" || text == "False") {
      value = false;
    } else {
      violate(name, node, "true or false");
    }
  }
  void field(std::string_view name, int64_t& value, Range range) override {
    const YAML::Node node = take(name);
    if (!node) return;
    int64_t parsed = 0;
    if (!node.IsScalar() || !parse_integer(node.Scalar(), parsed))
      return violate(name, node, "an integer");
    if (static_cast<double>(parsed) < range.min || static_cast<double>(parsed) > range.max)
      return violate(name, node, "a value " + show(range));
    value = parsed;
  }
  void field(std::string_view name, double& value, Range range) override {
    const YAML::Node node = take(name);
    if (!node) return;
    double parsed = 0;
    if (!node.IsScalar() || !parse_number(node.Scalar(), parsed) || !std::isfinite(parsed))
      return violate(name, node, "a finite number");
    if (parsed < range.min || parsed > range.max)
      return violate(name, node, "a value " + show(range));
    value = parsed;
  }
  void field(std::string_view name, std::string& value) override {
    const YAML::Node node = take(name);
    if (!node) return;
    if (!node.IsScalar()) return violate(name, node, "text");
    value = node.Scalar();
  }
  void field(std::string_view name, std::vector<std::string>& value) override {
    const YAML::Node node = take(name);
    if (!node) return;
    value.clear();
    if (node.IsScalar()) {
      value.push_back(node.Scalar());
    } else if (node.IsSequence()) {
      for (const YAML::Node& item : node) {
        if (!item.IsScalar()) return violate(name, item, "a list of text");
        value.push_back(item.Scalar());
      }
    } else {
      violate(name, node, "a list of text");
    }
  }
  void choice(std::string_view name, std::string& value,
              const std::vector<std::string>& allowed) override {
    const YAML::Node node = take(name);
    if (!node) return;
    if (node.IsScalar()) {
      for (const std::string& option : allowed) {
        if (node.Scalar() == option) {
          value = option;
          return;
        }
      }
    }
    std::string list;
    for (const std::string& option : allowed) list += (list.empty() ? "" : ", ") + option;
    violate(name, node, "one of " + list);
  }
  void field(std::string_view name, std::optional<int64_t>& value, Range range) override {
    optional_number(name, value, range);
  }
  void field(std::string_view name, std::optional<double>& value, Range range) override {
    optional_number(name, value, range);
  }
  void field(std::string_view name, std::vector<int64_t>& value, Range range) override {
    const YAML::Node node = take(name);
    if (!node) return;
    if (node.IsMap() || node.IsNull()) return violate(name, node, "a list of integers");
    std::vector<YAML::Node> items;
    if (node.IsScalar()) items.push_back(node);
    if (node.IsSequence())
      for (const YAML::Node& item : node) items.push_back(item);
    std::vector<int64_t> parsed;
    for (const YAML::Node& item : items) {
      int64_t number = 0;
      if (!item.IsScalar() || !parse_integer(item.Scalar(), number))
        return violate(name, item, "a list of integers");
      if (static_cast<double>(number) < range.min || static_cast<double>(number) > range.max)
        return violate(name, item, "values " + show(range));
      parsed.push_back(number);
    }
    value = std::move(parsed);
  }
  void field(std::string_view name, std::map<std::string, std::string>& value) override {
    const YAML::Node node = take(name);
    if (!node) return;
    if (!node.IsMap()) return violate(name, node, "a mapping of text to text");
    value.clear();
    for (const auto& item : node) {
      if (!item.second.IsScalar()) return violate(name, item.second, "a mapping of text to text");
      value[item.first.Scalar()] = item.second.Scalar();
    }
  }
  void ignored(std::string_view name) override { take(name); }
  void require(bool condition, std::string_view message) override {
    if (condition) return;
    const std::string where = scopes_.back().path;
    violations_.push_back(where.empty() ? std::string(message)
                                        : where + ": " + std::string(message));
  }

  std::vector<std::string> finish() {
    while (!scopes_.empty()) leave();
    return std::move(violations_);
  }

 protected:
  bool enter(std::string_view name) override {
    const YAML::Node node = take(name);
    if (node && !node.IsMap() && !node.IsNull()) {
      violate(name, node, "a mapping");
      return false;
    }
    scopes_.push_back({node ? node : YAML::Node(YAML::NodeType::Map), path(name), {}});
    return true;
  }
  int64_t enter_list(std::string_view name, int64_t current_size) override {
    const YAML::Node node = take(name);
    if (!node) {
      // Without input the list keeps its items, whose fields find nothing to read either.
      scopes_.push_back({YAML::Node(YAML::NodeType::Sequence), path(name), {}});
      return current_size;
    }
    if (!node.IsSequence()) {
      violate(name, node, "a list");
      return -1;
    }
    scopes_.push_back({node, path(name), {}});
    return static_cast<int64_t>(node.size());
  }
  void enter_item(int64_t index) override {
    const Scope& list = scopes_.back();
    const YAML::Node node = static_cast<size_t>(index) < list.node.size()
                                ? YAML::Node(list.node[static_cast<size_t>(index)])
                                : YAML::Node(YAML::NodeType::Map);
    const std::string item_path = list.path + "." + std::to_string(index);
    if (!node.IsMap())
      violations_.push_back(item_path + " is " + show(node) + ", expected a mapping");
    scopes_.push_back({node, item_path, {}});
  }
  void leave() override {
    const Scope& scope = scopes_.back();
    if (scope.node.IsMap()) {
      for (const auto& item : scope.node) {
        const std::string key = item.first.Scalar();
        if (!scope.known.contains(key)) {
          std::string known;
          for (const std::string& k : scope.known) known += (known.empty() ? "" : ", ") + k;
          violations_.push_back((scope.path.empty() ? key : scope.path + "." + key) +
                                " is not a known key; known here: " + known);
        }
      }
    }
    scopes_.pop_back();
  }

 private:
  struct Scope {
    YAML::Node node;
    std::string path;
    std::set<std::string> known;
  };

  std::string path(std::string_view name) const {
    const std::string& outer = scopes_.back().path;
    return outer.empty() ? std::string(name) : outer + "." + std::string(name);
  }
  template <typename T>
  void optional_number(std::string_view name, std::optional<T>& value, Range range) {
    const YAML::Node node = peek(name);
    if (node && node.IsNull()) {
      take(name);
      value.reset();
    } else if (node) {
      T parsed = value.value_or(0);
      const size_t before = violations_.size();
      field(name, parsed, range);
      if (violations_.size() == before) value = parsed;
    } else {
      take(name);
    }
  }
  YAML::Node peek(std::string_view name) const {
    const YAML::Node& node = scopes_.back().node;
    if (!node.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
    return node[std::string(name)];
  }
  YAML::Node take(std::string_view name) {
    scopes_.back().known.insert(std::string(name));
    return peek(name);
  }
  void violate(std::string_view name, const YAML::Node& got, const std::string& expected) {
    violations_.push_back(path(name) + " is " + show(got) + ", expected " + expected);
  }

  std::vector<Scope> scopes_;
  std::vector<std::string> violations_;
};

class Writer final : public FieldVisitor {
 public:
  Writer() { out_ << YAML::BeginMap; }
  void field(std::string_view name, bool& value) override { pair(name, value); }
  void field(std::string_view name, int64_t& value, Range) override { pair(name, value); }
  void field(std::string_view name, double& value, Range) override { pair(name, text_of(value)); }
  void field(std::string_view name, std::string& value) override {
    out_ << YAML::Key << std::string(name) << YAML::Value << YAML::DoubleQuoted << value;
  }
  void field(std::string_view name, std::vector<std::string>& value) override {
    out_ << YAML::Key << std::string(name) << YAML::Value << YAML::Flow << YAML::BeginSeq;
    for (const std::string& item : value) out_ << YAML::DoubleQuoted << item;
    out_ << YAML::EndSeq;
  }
  void choice(std::string_view name, std::string& value, const std::vector<std::string>&) override {
    pair(name, value);
  }
  void field(std::string_view name, std::optional<int64_t>& value, Range) override {
    if (value) {
      pair(name, *value);
    } else {
      out_ << YAML::Key << std::string(name) << YAML::Value << YAML::Null;
    }
  }
  void field(std::string_view name, std::optional<double>& value, Range) override {
    if (value) {
      pair(name, text_of(*value));
    } else {
      out_ << YAML::Key << std::string(name) << YAML::Value << YAML::Null;
    }
  }
  void field(std::string_view name, std::vector<int64_t>& value, Range) override {
    out_ << YAML::Key << std::string(name) << YAML::Value << YAML::Flow << value;
  }
  void field(std::string_view name, std::map<std::string, std::string>& value) override {
    out_ << YAML::Key << std::string(name) << YAML::Value << YAML::Flow << YAML::BeginMap;
    for (const auto& [key, text] : value)
      out_ << YAML::Key << key << YAML::Value << YAML::DoubleQuoted << text;
    out_ << YAML::EndMap;
  }
  void ignored(std::string_view) override {}
  void require(bool, std::string_view) override {}
  std::string finish() {
    out_ << YAML::EndMap;
    return std::string(out_.c_str()) + "\n";
  }

 protected:
  bool enter(std::string_view name) override {
    out_ << YAML::Key << std::string(name) << YAML::Value << YAML::BeginMap;
    in_list_.push_back(false);
    return true;
  }
  int64_t enter_list(std::string_view name, int64_t current_size) override {
    out_ << YAML::Key << std::string(name) << YAML::Value << YAML::BeginSeq;
    in_list_.push_back(true);
    return current_size;
  }
  void enter_item(int64_t) override {
    out_ << YAML::BeginMap;
    in_list_.push_back(false);
  }
  void leave() override {
    if (in_list_.back()) {
      out_ << YAML::EndSeq;
    } else {
      out_ << YAML::EndMap;
    }
    in_list_.pop_back();
  }

 private:
  /// The shortest text that reads back the same.
  static std::string text_of(double value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
  }
  template <typename T>
  void pair(std::string_view name, const T& value) {
    out_ << YAML::Key << std::string(name) << YAML::Value << value;
  }
  YAML::Emitter out_;
  std::vector<bool> in_list_;
};

void apply_override(YAML::Node root, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos)
    throw ConfigError(concat("override '", text, "' is not of the form key=value"));
  std::vector<std::string> keys;
  for (size_t begin = 0; begin <= equals;) {
    const size_t end = std::min(text.find('.', begin), equals);
    keys.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  YAML::Node value;
  try {
    // "key=" means an empty text, not null.
    const std::string yaml = text.substr(equals + 1);
    value = yaml.empty() ? YAML::Node(std::string()) : YAML::Load(yaml);
  } catch (const YAML::Exception& error) {
    throw ConfigError(concat("override '", text, "': the value is not YAML: ", error.what()));
  }
  YAML::Node node = root;
  for (size_t i = 0; i < keys.size(); ++i) {
    YAML::Node child;
    size_t index = 0;
    if (node.IsSequence()) {
      if (!parse_number(keys[i], index) || index >= node.size())
        throw ConfigError(
            concat("override '", text, "': '", keys[i], "' is not an index below ", node.size()));
      child.reset(node[index]);
    } else if (node.IsMap() || node.IsNull() || !node.IsDefined()) {
      child.reset(node[keys[i]]);
    } else {
      throw ConfigError(concat("override '", text, "': ", keys[i], " lies inside a plain value"));
    }
    if (i + 1 == keys.size()) {
      child = value;
    } else {
      if (!child.IsDefined() || child.IsNull()) child = YAML::Node(YAML::NodeType::Map);
      node.reset(child);
    }
  }
}

}  // namespace

ConfigSource::ConfigSource(std::string name, std::string_view text,
                           const std::vector<std::string>& overrides)
    : name_(std::move(name)) {
  try {
    root_ = std::make_unique<YAML::Node>(YAML::Load(std::string(text)));
  } catch (const YAML::Exception& error) {
    throw ConfigError(concat(name_, ": not YAML: ", error.what()));
  }
  if (root_->IsNull()) *root_ = YAML::Node(YAML::NodeType::Map);
  if (!root_->IsMap()) throw ConfigError(concat(name_, ": expected a mapping of keys to values"));
  for (const std::string& override_text : overrides) apply_override(*root_, override_text);
}

ConfigSource ConfigSource::from_file(const std::string& path,
                                     const std::vector<std::string>& overrides) {
  return ConfigSource(path, read_file(path), overrides);
}

ConfigSource::~ConfigSource() = default;
ConfigSource::ConfigSource(ConfigSource&&) noexcept = default;

std::unique_ptr<FieldVisitor> ConfigSource::reader() const {
  return std::make_unique<Reader>(*root_);
}

std::vector<std::string> ConfigSource::finish(FieldVisitor& reader) const {
  return static_cast<Reader&>(reader).finish();
}

void ConfigSource::fail(const std::vector<std::string>& violations) const {
  std::string text = name_ + ":";
  for (const std::string& violation : violations) text += "\n  " + violation;
  throw ConfigError(text);
}

struct ConfigDump::State {
  Writer writer;
};
ConfigDump::ConfigDump() : state_(std::make_unique<State>()) {}
ConfigDump::~ConfigDump() = default;
FieldVisitor* ConfigDump::visitor() { return &state_->writer; }
std::string ConfigDump::text() const { return state_->writer.finish(); }

}  // namespace moerl
