#include "experiments/reward_settings.h"

#include <charconv>
#include <cmath>
#include <set>

#include "common/check.h"
#include "common/error.h"
#include "reward/plugins/plugin_verifier.h"

namespace moerl {
namespace {

std::map<std::string, double> to_numbers(const std::map<std::string, std::string>& texts) {
  std::map<std::string, double> numbers;
  for (const auto& [status, text] : texts) {
    double value = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || rest != end || !std::isfinite(value))
      throw ConfigError(
          concat("reward: score_by_status: ", status, " is '", text, "', expected a number"));
    numbers[status] = value;
  }
  return numbers;
}

reward::Gate to_gate(const std::string& gate) {
  if (gate == "answered") return reward::Gate::kAnswered;
  return gate == "correct" ? reward::Gate::kCorrect : reward::Gate::kAlways;
}

reward::RewardParts to_parts(const std::vector<RewardPartSettings>& settings) {
  reward::RewardParts parts;
  for (const RewardPartSettings& each : settings)
    parts.push_back({.name = each.name.empty() ? each.verifier : each.name,
                     .verifier = each.verifier,
                     .options = each.options,
                     .weight = each.weight,
                     .gate = to_gate(each.gate),
                     .required = each.required,
                     .score_by_status = to_numbers(each.score_by_status)});
  return parts;
}

/// Calls f and turns a refusal into a ConfigError that says where.
template <typename F>
auto as_config_error(const std::string& where, F&& f) {
  try {
    return f();
  } catch (const std::invalid_argument& error) {
    throw ConfigError(concat(where, ": ", error.what()));
  }
}

/// The needs that the recipe states for a part; empty: none is stated.
std::string stated_needs(const RewardSettings& settings, const std::string& name) {
  const auto find = [&](const std::vector<RewardPartSettings>& parts) {
    for (const RewardPartSettings& each : parts)
      if ((each.name.empty() ? each.verifier : each.name) == name) return each.needs;
    return std::string();
  };
  std::string needs = find(settings.parts);
  for (const RewardRoute& route : settings.routes)
    if (needs.empty()) needs = find(route.parts);
  return needs;
}

}  // namespace

reward::RewardPlan make_reward_plan(const RewardSettings& settings,
                                    const std::string& task_verifier) {
  reward::RewardPlan plan;
  plan.parts = to_parts(settings.parts);
  if (plan.parts.empty())
    plan.parts = {{.name = "",
                   .verifier = settings.verifier.empty() ? task_verifier : settings.verifier,
                   .options = settings.options,
                   .score_by_status = to_numbers(settings.score_by_status)}};
  as_config_error("reward", [&] { reward::check_parts(plan.parts); });
  for (const RewardRoute& route : settings.routes) {
    const reward::RewardParts parts = to_parts(route.parts);
    for (const std::string& source : route.data_sources) {
      const std::string where = concat("reward: route to '", source, "'");
      if (!plan.routes.emplace(source, parts).second)
        throw ConfigError(concat(where, ": there are two"));
      as_config_error(where, [&] { reward::check_parts(parts); });
    }
  }
  return plan;
}

std::vector<reward::SampleNeeds> needs_of(const RewardSettings& settings,
                                          const reward::RewardParts& parts) {
  static const std::shared_ptr<const reward::VerifierRegistry> built_in =
      reward::make_verifier_registry();
  std::vector<reward::SampleNeeds> needs;
  for (const reward::RewardPart& part : parts) {
    const std::string stated = stated_needs(settings, part.name);
    reward::SampleNeeds each{.token_ids = true};
    for (const auto& verifier : built_in->list())
      if (verifier->name() == part.verifier) each = verifier->needs();
    if (!stated.empty()) {
      each.correctness = stated != "completion";
      each.group = stated == "group";
    }
    needs.push_back(each);
  }
  return needs;
}

std::shared_ptr<reward::VerifierRegistry> make_registry(const std::vector<RewardPlugin>& plugins,
                                                        const std::filesystem::path& directory) {
  auto registry = reward::make_verifier_registry();
  const auto resolve = [&](const std::string& path) {
    return std::filesystem::absolute(directory / path).lexically_normal().string();
  };
  for (const RewardPlugin& plugin : plugins) {
    as_config_error("reward.plugins", [&] {
      const reward::PluginConfig config =
          !plugin.python.empty() ? reward::python_plugin(plugin.name, resolve(plugin.python))
          : !plugin.library.empty()
              ? reward::library_plugin(plugin.name, resolve(plugin.library),
                                       std::filesystem::read_symlink("/proc/self/exe"))
              : reward::command_plugin(plugin.name, plugin.command);
      registry->add(std::make_shared<reward::PluginVerifier>(config));
    });
  }
  return registry;
}

void check_rewards(const Recipe& recipe, const TaskData& task,
                   const reward::VerifierRegistry& registry) {
  const reward::RewardPlan plan = make_reward_plan(recipe.reward, task.verifier);
  std::set<std::string> sources;
  for (const auto* rows : {&task.train, &task.val})
    for (const PromptRow& row : *rows) sources.insert(row.data_source);
  for (const std::string& source : sources)
    as_config_error("reward", [&] { plan.parts_for(source); });
  std::map<std::string, reward::RewardParts> rewards = plan.routes;
  // Without a task there may be no verifier yet.
  if (!plan.parts.front().verifier.empty()) rewards["*"] = plan.parts;
  for (const auto& [source, parts] : rewards) {
    const std::vector<reward::SampleNeeds> needs = needs_of(recipe.reward, parts);
    if (needs.front().correctness || needs.front().group)
      throw ConfigError(concat("reward: the first part of data source '", source, "' is ",
                               parts.front().verifier,
                               ", which must be told whether the answer is right; put the part "
                               "that judges the answer first"));
    if (!recipe.reward.addresses.empty()) continue;
    for (const reward::RewardPart& part : parts)
      as_config_error(concat("reward part '", part.name, "'"),
                      [&] { registry.get(part.verifier)->check_options(part.options); });
  }
}

}  // namespace moerl
