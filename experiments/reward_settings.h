#pragma once
#include <memory>
#include <string>
#include <vector>

#include "experiments/recipe.h"
#include "reward/composite/reward_plan.h"
#include "reward/verifier_registry.h"

namespace moerl {

/// The reward of a recipe.
/// @param task_verifier  for a recipe that names no verifier and no parts.
/// @throws ConfigError if a weight by status is no number or the parts do not fit together.
reward::RewardPlan make_reward_plan(const RewardSettings& settings,
                                    const std::string& task_verifier);

/// What must be known for each part: what the recipe says, else what the verifier of this build
/// says, else the completion and its tokens.
std::vector<reward::SampleNeeds> needs_of(const RewardSettings& settings,
                                          const reward::RewardParts& parts);

/// Every verifier of this build and the plug-ins, which are started.
/// @param directory  that paths of the plug-ins start from.
/// @throws ConfigError naming the plug-in.
std::shared_ptr<reward::VerifierRegistry> make_registry(const std::vector<RewardPlugin>& plugins,
                                                        const std::filesystem::path& directory);

/// Refuses what is known to be wrong before the first completion: a data source without a reward,
/// and, in the embedded service, verifiers and options. @throws ConfigError.
void check_rewards(const Recipe& recipe, const TaskData& task,
                   const reward::VerifierRegistry& registry);

}  // namespace moerl
