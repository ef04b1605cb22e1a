#include "reward/verifier_registry.h"

#include "common/check.h"
#include "reward/verifiers/code.h"
#include "reward/verifiers/countdown.h"
#include "reward/verifiers/exact_match.h"
#include "reward/verifiers/format.h"
#include "reward/verifiers/gsm8k.h"
#include "reward/verifiers/language_consistency.h"
#include "reward/verifiers/length_rewards.h"
#include "reward/verifiers/math.h"
#include "reward/verifiers/multiple_choice.h"
#include "reward/verifiers/qa.h"
#include "reward/verifiers/structure_rewards.h"

namespace moerl::reward {

void VerifierRegistry::add(std::shared_ptr<const Verifier> verifier) {
  check(verifier != nullptr, "VerifierRegistry::add: verifier is null");
  const std::string name(verifier->name());
  check(!name.empty(), "VerifierRegistry::add: the verifier's name is empty");
  const bool is_new = verifiers_.emplace(name, std::move(verifier)).second;
  check(is_new, "VerifierRegistry::add: there is a verifier '", name, "' already");
}

std::shared_ptr<const Verifier> VerifierRegistry::get(const std::string& name) const {
  const auto it = verifiers_.find(name);
  if (it == verifiers_.end()) {
    std::string known;
    for (const auto& [each, verifier] : verifiers_) known += (known.empty() ? "" : ", ") + each;
    check(false, "unknown verifier '", name, "', expected one of: ", known);
  }
  return it->second;
}

std::vector<std::shared_ptr<const Verifier>> VerifierRegistry::list() const {
  std::vector<std::shared_ptr<const Verifier>> all;
  for (const auto& [name, verifier] : verifiers_) all.push_back(verifier);
  return all;
}

std::shared_ptr<VerifierRegistry> make_verifier_registry() {
  auto registry = std::make_shared<VerifierRegistry>();
  registry->add(std::make_shared<CodeVerifier>());
  registry->add(std::make_shared<CodeFormatVerifier>());
  registry->add(std::make_shared<CountdownVerifier>());
  registry->add(std::make_shared<ExactMatchVerifier>());
  registry->add(std::make_shared<FormatVerifier>());
  registry->add(std::make_shared<Gsm8kVerifier>());
  registry->add(std::make_shared<LanguageConsistencyVerifier>());
  registry->add(std::make_shared<LenVerifier>());
  registry->add(std::make_shared<QaVerifier>());
  registry->add(std::make_shared<ReasoningStepsVerifier>());
  registry->add(std::make_shared<RepetitionVerifier>());
  registry->add(std::make_shared<SoftOverlongVerifier>());
  registry->add(std::make_shared<CosineVerifier>());
  registry->add(std::make_shared<TagCountVerifier>());
  registry->add(std::make_shared<MathVerifier>());
  registry->add(std::make_shared<MultipleChoiceVerifier>());
  return registry;
}

}  // namespace moerl::reward
