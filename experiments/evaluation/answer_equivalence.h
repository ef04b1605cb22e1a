#pragma once
#include <memory>
#include <string>
#include <vector>

#include "experiments/evaluation/summary.h"
#include "reward/sample.h"
#include "reward/verifier_registry.h"

namespace moerl::eval {

/// Equivalence by the suite's own verifier: two answers are the same if one response, judged with
/// the other's extracted answer as the ground truth, is correct.
/// @param problems  that the records belong to; copied. @throws std::invalid_argument for an
///   unknown verifier or option.
AnswerEquivalence equivalence_by(const std::shared_ptr<const reward::VerifierRegistry>& registry,
                                 const std::string& verifier, const reward::Options& options,
                                 const std::vector<ProblemRecord>& problems);

}  // namespace moerl::eval
