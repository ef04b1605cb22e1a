#include "reward/composite/reward_plan.h"

#include <algorithm>
#include <set>

#include "common/check.h"

namespace moerl::reward {

const RewardParts& RewardPlan::parts_for(const std::string& data_source) const {
  const auto route = routes.find(data_source);
  if (route != routes.end()) return route->second;
  check(!parts.empty(), "no reward is routed to the data source '", data_source,
        "', and there is none for all");
  return parts;
}

void check_parts(const RewardParts& parts) {
  check(!parts.empty(), "a reward needs at least one part");
  std::set<std::string> names;
  for (const RewardPart& part : parts) {
    check((!part.name.empty() || parts.size() == 1) && names.insert(part.name).second,
          "reward part '", part.name, "': every part needs a name of its own");
    check(!part.verifier.empty(), "reward part '", part.name, "': the verifier is not named");
    if (part.score_by_status.empty()) continue;
    for (const auto& entry : part.score_by_status)
      check(std::any_of(kVerdictStatuses.begin(), kVerdictStatuses.end(),
                        [&](VerdictStatus each) {
                          return !is_unscorable(each) && status_name(each) == entry.first;
                        }),
            "reward part '", part.name, "': score_by_status names '", entry.first,
            "', expected correct, incorrect, no_answer, unparsable, limit or timeout");
    for (const char* status : {"correct", "incorrect"})
      check(part.score_by_status.contains(status), "reward part '", part.name,
            "': score_by_status lacks ", status);
  }
  check(parts.front().gate == Gate::kAlways, "reward part '", parts.front().name,
        "': the first part judges the answer and cannot have a gate");
}

double part_score(const RewardPart& part, const Verdict& verdict) {
  if (is_unscorable(verdict)) return 0;
  if (part.score_by_status.empty()) return verdict.score;
  const auto it = part.score_by_status.find(std::string(status_name(verdict.status)));
  return it != part.score_by_status.end() ? it->second : part.score_by_status.at("incorrect");
}

bool is_open(Gate gate, VerdictStatus first) {
  switch (gate) {
    case Gate::kAlways:
      return true;
    case Gate::kAnswered:
      return first == VerdictStatus::kCorrect || first == VerdictStatus::kIncorrect;
    case Gate::kCorrect:
      return first == VerdictStatus::kCorrect;
  }
  return false;
}

Verdict combine(const RewardParts& parts, const std::vector<Verdict>& verdicts) {
  const Verdict& first = verdicts.front();
  if (parts.size() == 1 && parts.front().name.empty()) {
    Verdict out = first;
    out.score = parts.front().weight * part_score(parts.front(), first);
    return out;
  }
  Verdict out{.status = first.status, .extracted = first.extracted, .detail = first.detail};
  const Verdict* failed = nullptr;
  for (size_t i = 0; i < parts.size(); ++i) {
    const RewardPart& part = parts[i];
    const Verdict& verdict = verdicts[i];
    if (!is_open(part.gate, first.status)) {
      out.parts[part.name] = 0;
      continue;
    }
    if (is_unscorable(verdict)) {
      if (part.required && failed == nullptr) failed = &verdict;
      continue;
    }
    const double score = part_score(part, verdict);
    out.score = i == 0 ? part.weight * score : out.score + part.weight * score;
    out.parts[part.name] = score;
    if (verdict.parts.size() < 2) continue;
    for (const auto& [name, value] : verdict.parts) out.parts[part.name + "/" + name] = value;
  }
  if (failed != nullptr) {
    out.score = 0;
    out.status = failed->status;
    out.detail = failed->detail;
  }
  return out;
}

}  // namespace moerl::reward
