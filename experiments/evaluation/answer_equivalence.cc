#include "experiments/evaluation/answer_equivalence.h"

#include <chrono>
#include <map>

namespace moerl::eval {

AnswerEquivalence equivalence_by(const std::shared_ptr<const reward::VerifierRegistry>& registry,
                                 const std::string& verifier, const reward::Options& options,
                                 const std::vector<ProblemRecord>& problems) {
  const auto judge = registry->get(verifier);
  judge->check_options(options);
  std::map<std::pair<std::string, int64_t>, ProblemRecord> by_key;
  for (const ProblemRecord& p : problems) by_key[{p.suite, p.problem}] = p;
  return [judge, options, by_key = std::move(by_key)](const EvalRecord& a, const EvalRecord& b) {
    constexpr std::chrono::seconds kDeadline{1};
    const ProblemRecord& problem = by_key.at({a.suite, a.problem});
    const reward::Sample sample = {a.response, b.extracted, problem.extra_info_json,
                                   problem.data_source, problem.prompt};
    const reward::WorkBudget budget(reward::WorkBudget::Clock::now() + kDeadline, {});
    try {
      return judge->score(sample, options, budget).status == reward::VerdictStatus::kCorrect;
    } catch (const reward::WorkBudgetSpent&) {
      return false;
    }
  };
}

}  // namespace moerl::eval
