#pragma once
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace YAML {
class Node;
}

namespace moerl {

/// The closed interval that a number must lie in.
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};
inline constexpr Range kAny{};
inline constexpr Range kPositive{std::numeric_limits<double>::min()};
inline constexpr Range kNotNegative{0};
inline constexpr Range kAtLeastOne{1};
inline constexpr Range kUnit{0, 1};

/// Walks the fields of a configuration struct. A struct has one field list,
///
///   void visit_fields(FieldVisitor& v, GrpoConfig& c) {
///     v.field("clip_ratio_low", c.clip_ratio_low, kUnit);
///     v.group("optim", c.optim);
///   }
///
/// and parsing, range checks, overrides and the dump are all derived from it. A field that the
/// input lacks keeps the default of the struct.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;
  virtual void field(std::string_view name, bool& value) = 0;
  virtual void field(std::string_view name, int64_t& value, Range range = kAny) = 0;
  virtual void field(std::string_view name, double& value, Range range = kAny) = 0;
  virtual void field(std::string_view name, std::string& value) = 0;
  virtual void field(std::string_view name, std::vector<std::string>& value) = 0;
  /// Text out of a closed list.
  virtual void choice(std::string_view name, std::string& value,
                      const std::vector<std::string>& allowed) = 0;
  /// A number that may be absent or null.
  virtual void field(std::string_view name, std::optional<int64_t>& value, Range range = kAny) = 0;
  virtual void field(std::string_view name, std::optional<double>& value, Range range = kAny) = 0;
  /// A list of whole numbers; a single number counts as a list of one.
  virtual void field(std::string_view name, std::vector<int64_t>& value, Range range = kAny) = 0;
  /// Free-form text to text, for what a plug-in understands.
  virtual void field(std::string_view name, std::map<std::string, std::string>& value) = 0;
  /// A key that the input may have and that is not used, whatever its value.
  virtual void ignored(std::string_view name) = 0;
  /// Reports a violation of the struct as a whole, such as two fields that do not fit.
  virtual void require(bool condition, std::string_view message) = 0;

  template <typename Struct>
  void group(std::string_view name, Struct& value) {
    if (!enter(name)) return;
    visit_fields(*this, value);
    leave();
  }
  /// A list of structs; the input's list replaces the value.
  template <typename Struct>
  void list(std::string_view name, std::vector<Struct>& values) {
    const int64_t n = enter_list(name, static_cast<int64_t>(values.size()));
    if (n < 0) return;
    values.resize(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      enter_item(i);
      visit_fields(*this, values[static_cast<size_t>(i)]);
      leave();
    }
    leave();
  }

 protected:
  virtual bool enter(std::string_view name) = 0;
  /// Returns the length that the list must have, or -1 to skip it.
  virtual int64_t enter_list(std::string_view name, int64_t current_size) = 0;
  virtual void enter_item(int64_t index) = 0;
  virtual void leave() = 0;
};

/// Parsed YAML or JSON text (JSON is a subset of YAML), with `a.b.c=value` overrides applied.
class ConfigSource {
 public:
  /// @param name  how errors call it, such as the file's path.
  /// @throws ConfigError if the text is not YAML or an override is malformed. An override may name
  ///   a key that the text lacks; whether the key exists is decided by the struct it is read into.
  ///   A list item is named by its index (`stages.1.lr=…`).
  ConfigSource(std::string name, std::string_view text,
               const std::vector<std::string>& overrides = {});
  static ConfigSource from_file(const std::string& path,
                                const std::vector<std::string>& overrides = {});
  ~ConfigSource();
  ConfigSource(ConfigSource&&) noexcept;

  /// Fills the struct. @throws ConfigError listing every violation at once: unknown keys, wrong
  /// types, values out of range, each with its dotted path, the value got and what is allowed.
  template <typename Struct>
  void read(Struct& value) const {
    std::vector<std::string> violations = read_collecting(value);
    if (!violations.empty()) fail(violations);
  }
  /// As read(), but returns the violations.
  template <typename Struct>
  std::vector<std::string> read_collecting(Struct& value) const {
    std::unique_ptr<FieldVisitor> visitor = reader();
    visit_fields(*visitor, value);
    return finish(*visitor);
  }

 private:
  std::unique_ptr<FieldVisitor> reader() const;
  std::vector<std::string> finish(FieldVisitor& reader) const;
  [[noreturn]] void fail(const std::vector<std::string>& violations) const;
  std::string name_;
  std::unique_ptr<YAML::Node> root_;
};

/// Writes a struct out as YAML through the same field list; reading it back gives the same struct.
class ConfigDump {
 public:
  template <typename Struct>
  static std::string to_yaml(const Struct& value) {
    ConfigDump dump;
    Struct copy = value;
    visit_fields(*dump.visitor(), copy);
    return dump.text();
  }
  ConfigDump();
  ~ConfigDump();

 private:
  FieldVisitor* visitor();
  std::string text() const;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moerl
