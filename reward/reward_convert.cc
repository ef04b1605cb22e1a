#include "reward/reward_convert.h"

#include <cmath>

#include "common/check.h"
#include "reward/utf8.h"

namespace moerl::reward {

static_assert(static_cast<int>(VerdictStatus::kCorrect) == v1::VERDICT_STATUS_CORRECT &&
              static_cast<int>(VerdictStatus::kIncorrect) == v1::VERDICT_STATUS_INCORRECT &&
              static_cast<int>(VerdictStatus::kNoAnswer) == v1::VERDICT_STATUS_NO_ANSWER &&
              static_cast<int>(VerdictStatus::kUnparsable) == v1::VERDICT_STATUS_UNPARSABLE &&
              static_cast<int>(VerdictStatus::kLimit) == v1::VERDICT_STATUS_LIMIT &&
              static_cast<int>(VerdictStatus::kTimeout) == v1::VERDICT_STATUS_TIMEOUT &&
              static_cast<int>(VerdictStatus::kGoldError) == v1::VERDICT_STATUS_GOLD_ERROR &&
              static_cast<int>(VerdictStatus::kInternalError) == v1::VERDICT_STATUS_INTERNAL_ERROR);

void to_proto(const ScoreItem& item, v1::ScoreItem* out) {
  out->set_id(item.id);
  out->set_verifier(to_valid_utf8(item.verifier));
  out->set_response(to_valid_utf8(item.sample.response));
  out->set_ground_truth(to_valid_utf8(item.sample.ground_truth));
  out->set_extra_info_json(to_valid_utf8(item.sample.extra_info_json));
  out->set_data_source(to_valid_utf8(item.sample.data_source));
  out->set_prompt(to_valid_utf8(item.sample.prompt));
  for (const auto& [name, value] : item.options)
    (*out->mutable_options())[to_valid_utf8(name)] = to_valid_utf8(value);
  if (item.sample.num_tokens >= 0) out->set_num_tokens(item.sample.num_tokens);
  out->mutable_token_ids()->Add(item.sample.token_ids.begin(), item.sample.token_ids.end());
  if (item.sample.is_correct) out->set_is_correct(*item.sample.is_correct);
  for (const GroupMember& member : item.sample.group) {
    v1::GroupMember* each = out->add_group();
    if (member.num_tokens >= 0) each->set_num_tokens(member.num_tokens);
    each->set_num_characters(member.num_characters);
    each->set_is_correct(member.is_correct);
  }
}

ScoreItem from_proto(const v1::ScoreItem& item) {
  ScoreItem out{item.id(), item.verifier(), {}, {item.options().begin(), item.options().end()}};
  out.sample = {item.response(), item.ground_truth(), item.extra_info_json(), item.data_source(),
                item.prompt()};
  if (item.has_num_tokens()) out.sample.num_tokens = item.num_tokens();
  out.sample.token_ids.assign(item.token_ids().begin(), item.token_ids().end());
  if (item.has_is_correct()) out.sample.is_correct = item.is_correct();
  for (const v1::GroupMember& member : item.group())
    out.sample.group.push_back({member.has_num_tokens() ? member.num_tokens() : -1,
                                member.num_characters(), member.is_correct()});
  return out;
}

void to_proto(const Verdict& verdict, v1::Verdict* out) {
  out->set_id(verdict.id);
  out->set_score(verdict.score);
  out->set_status(static_cast<v1::VerdictStatus>(verdict.status));
  out->set_extracted(to_valid_utf8(verdict.extracted));
  out->set_detail(to_valid_utf8(verdict.detail));
  for (const auto& [name, value] : verdict.parts) (*out->mutable_parts())[name] = value;
}

Verdict from_proto(const v1::Verdict& verdict) {
  const int status = verdict.status();
  check(status >= static_cast<int>(kVerdictStatuses.front()) &&
            status <= static_cast<int>(kVerdictStatuses.back()),
        "verdict of item ", verdict.id(), ": status is ", status, ", expected 1 to ",
        static_cast<int>(kVerdictStatuses.back()));
  check(std::isfinite(verdict.score()), "verdict of item ", verdict.id(), ": the score is ",
        verdict.score(), ", expected a finite number");
  for (const auto& [name, value] : verdict.parts())
    check(std::isfinite(value), "verdict of item ", verdict.id(), ": part ", name, " is ", value,
          ", expected a finite number");
  return {verdict.id(),
          verdict.score(),
          static_cast<VerdictStatus>(status),
          verdict.extracted(),
          {verdict.parts().begin(), verdict.parts().end()},
          verdict.detail()};
}

}  // namespace moerl::reward
