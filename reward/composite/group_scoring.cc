#include "reward/composite/group_scoring.h"

#include <chrono>

#include "common/check.h"
#include "reward/verifiers/sample_facts.h"

namespace moerl::reward {

GroupScoring::GroupScoring(std::shared_ptr<const RewardParts> parts, std::vector<SampleNeeds> needs,
                           Sample row, size_t group_size, SubmitItem submit,
                           std::shared_ptr<VerifierStatistics> statistics, Done done)
    : shared_parts_(std::move(parts)),
      parts_(*shared_parts_),
      needs_(std::move(needs)),
      row_(std::move(row)),
      submit_(std::move(submit)),
      statistics_(std::move(statistics)),
      done_(std::move(done)),
      members_(group_size),
      num_unjudged_(group_size) {
  check(needs_.size() == parts_.size(), "GroupScoring: there are needs of ", needs_.size(),
        " parts, expected ", parts_.size());
  check(!needs_.front().correctness && !needs_.front().group, "reward part '", parts_.front().name,
        "': the first part must judge the answer, and ", parts_.front().verifier,
        " needs to be told whether it is right");
}

void GroupScoring::add(size_t index, std::string response, const std::vector<int32_t>& token_ids) {
  Requests requests;
  {
    const std::lock_guard lock(mutex_);
    Member& member = members_.at(index);
    member.sample = row_;
    member.sample.response = std::move(response);
    member.sample.num_tokens = static_cast<int64_t>(token_ids.size());
    member.sample.token_ids = token_ids;
    member.verdicts.resize(parts_.size());
    member.num_open = parts_.size();
    for (size_t part = 0; part < parts_.size(); ++part)
      if (!needs_[part].correctness && !needs_[part].group) requests.emplace_back(index, part);
  }
  send(requests);
}

ScoreItem GroupScoring::make_item(size_t index, size_t part) const {
  const std::lock_guard lock(mutex_);
  ScoreItem item{index, parts_[part].verifier, members_[index].sample, parts_[part].options};
  if (!needs_[part].token_ids) item.sample.token_ids.clear();
  if (needs_[part].group) item.sample.group = group_;
  return item;
}

void GroupScoring::send(const Requests& requests) {
  for (const auto& [index, part] : requests) {
    const auto start = std::chrono::steady_clock::now();
    submit_(make_item(index, part), [self = shared_from_this(), index = index, part = part, start](
                                        std::exception_ptr error, Verdict verdict) {
      if (!error && self->statistics_)
        self->statistics_->add(
            self->parts_[part].verifier,
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
            verdict.status);
      self->on_verdict(index, part, error, std::move(verdict));
    });
  }
}

/// The first part of a completion has been judged: what waited for that. The lock is held.
void GroupScoring::after_first(size_t index, Requests& requests) {
  Member& member = members_[index];
  const VerdictStatus first = member.verdicts.front().status;
  if (!member.error && !is_unscorable(first))
    member.sample.is_correct = first == VerdictStatus::kCorrect;
  for (size_t part = 1; part < parts_.size(); ++part)
    if (needs_[part].correctness && !needs_[part].group) requests.emplace_back(index, part);
  if (--num_unjudged_ > 0) return;
  // In the order of the completions, not of their verdicts: what a part sees repeats with the run.
  for (const auto& [sample, verdicts, error, num_open] : members_)
    if (sample.is_correct)
      group_.push_back({sample.num_tokens, count_characters(sample.response), *sample.is_correct});
  for (size_t each = 0; each < members_.size(); ++each)
    for (size_t part = 1; part < parts_.size(); ++part)
      if (needs_[part].group) requests.emplace_back(each, part);
}

void GroupScoring::on_verdict(size_t index, size_t part, std::exception_ptr error,
                              Verdict verdict) {
  struct End {
    size_t index;
    std::exception_ptr error;
    Verdict verdict;
  };
  std::vector<End> ends;
  Requests requests;
  {
    const std::lock_guard lock(mutex_);
    const auto close_part = [&](size_t i) {
      if (--members_[i].num_open > 0) return;
      Member& member = members_[i];
      ends.push_back(
          {i, member.error, member.error ? Verdict{} : combine(parts_, member.verdicts)});
      member.sample = {};
    };
    Member& member = members_[index];
    if (error && !member.error) member.error = error;
    member.verdicts[part] = std::move(verdict);
    if (part == 0) {
      Requests waiting;
      after_first(index, waiting);
      // A part that cannot be judged, or does not count, is not asked for.
      for (const auto& [i, p] : waiting) {
        const Member& each = members_[i];
        if (each.error || !each.sample.is_correct ||
            !is_open(parts_[p].gate, each.verdicts.front().status))
          close_part(i);
        else
          requests.emplace_back(i, p);
      }
    }
    close_part(index);
  }
  for (End& end : ends) {
    end.verdict.id = end.index;
    done_(end.index, end.error, std::move(end.verdict));
  }
  send(requests);
}

}  // namespace moerl::reward
