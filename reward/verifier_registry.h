#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "reward/verifier.h"

namespace moerl::reward {

/// Of all built-in verifiers: raised with every change after which one of them may judge an answer
/// otherwise. Kept with scores, so that figures of different verdicts are not taken for the same.
inline constexpr int kVerdictsVersion = 1;

/// The verifiers of a process by name. Filled first, then only read: reading is thread safe.
class VerifierRegistry {
 public:
  /// @throws std::invalid_argument if the name is empty or taken.
  void add(std::shared_ptr<const Verifier> verifier);

  /// @throws std::invalid_argument naming the known verifiers if there is no such name.
  std::shared_ptr<const Verifier> get(const std::string& name) const;

  /// All verifiers, by name.
  std::vector<std::shared_ptr<const Verifier>> list() const;

 private:
  std::map<std::string, std::shared_ptr<const Verifier>> verifiers_;
};

/// A registry with every verifier of reward/verifiers.
std::shared_ptr<VerifierRegistry> make_verifier_registry();

}  // namespace moerl::reward
