#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "reward/sample.h"

namespace moerl::reward {

/// Reads the options of one verifier by name. Each read registers the name as known; finish()
/// then refuses whatever else was given.
class OptionReader {
 public:
  /// @param verifier for error texts.  @param options borrowed.
  OptionReader(std::string_view verifier, const Options& options)
      : verifier_(verifier), options_(options) {}

  /// A finite number in [low, high]. @throws std::invalid_argument.
  double number(std::string_view name, double fallback, double low, double high);
  /// "true"/"false" or "1"/"0". @throws std::invalid_argument.
  bool flag(std::string_view name, bool fallback);
  /// The index of the chosen word in `words`. @throws std::invalid_argument.
  size_t choice(std::string_view name, size_t fallback,
                std::initializer_list<std::string_view> words);
  /// The text as it is.
  std::string text(std::string_view name, std::string_view fallback);

  /// @throws std::invalid_argument if an option was given that nothing has read.
  void finish() const;

 private:
  const std::string* find(std::string_view name);

  std::string verifier_;
  const Options& options_;
  std::vector<std::string> known_;
};

}  // namespace moerl::reward
