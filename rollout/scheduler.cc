#include "rollout/scheduler.h"

#include <algorithm>

#include "common/check.h"

namespace moerl {
namespace {

/// New work leaves this share of the blocks free for the running sequences to grow into.
constexpr int64_t kHeadroomDivisor = 100;

}  // namespace

void StepPlan::clear() {
  copies.clear();
  rows.clear();
  samples.clear();
  num_rows = 0;
  sources.clear();
}

bool StepPlan::is_decode() const {
  if (rows.empty() || samples.size() != rows.size()) return false;
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].num_rows != 1 || samples[i].row != static_cast<int64_t>(i) ||
        samples[i].sequence != rows[i].sequence)
      return false;
  return true;
}

Scheduler::Scheduler(const SchedulerConfig& config)
    : config_(config), blocks_(config.num_kv_blocks) {
  check(config.max_num_seqs >= 1, "Scheduler: max_num_seqs is ", config.max_num_seqs,
        ", expected >= 1");
  check(config.max_batched_tokens >= config.max_num_seqs, "Scheduler: max_batched_tokens is ",
        config.max_batched_tokens, ", expected >= max_num_seqs = ", config.max_num_seqs);
}

void Scheduler::check_fits(int64_t max_positions) const {
  const int64_t needed = KvBlockManager::blocks_for(max_positions);
  check(needed <= blocks_.num_blocks(), "prompt and max_tokens make up to ", max_positions,
        " positions, which need ", needed, " key-value blocks; the worker has ",
        blocks_.num_blocks());
}

void Scheduler::add(PromptGroup& group) {
  check_fits(group.max_positions);
  group.age = next_age_++;
  for (Sequence& sequence : group.sequences) group.waiting.push_back(&sequence);
  if (!group.waiting.empty()) waiting_.push_back(&group);
  settled_ = false;
}

StepPlan& Scheduler::begin_plan() {
  last_plan_ = 1 - last_plan_;
  plan().clear();
  return plan();
}

const StepPlan& Scheduler::schedule() {
  const StepPlan& plan = begin_plan();
  int64_t budget = config_.max_batched_tokens;
  const int64_t preemptions = num_preemptions_;
  schedule_running(budget);
  // What has just been taken away is not handed out in the same breath.
  settled_ = num_preemptions_ == preemptions;
  if (settled_) admit(budget);
  check_internal(idle() || plan.num_rows > 0 || !plan.samples.empty(),
                 "Scheduler: empty step with ", running_.size(), " running sequences and ",
                 waiting_.size(), " waiting groups");
  return plan;
}

const StepPlan* Scheduler::schedule_ahead() {
  if (!waiting_.empty() && !settled_) return nullptr;
  const StepPlan& last = plan();
  StepPlan& next = begin_plan();
  const auto give_up = [&] {
    last_plan_ = 1 - last_plan_;
    return nullptr;
  };
  for (size_t i = 0; i < last.samples.size(); ++i) {
    Sequence* sequence = last.samples[i].sequence;
    if (sequence == nullptr) continue;
    // The token that is being drawn is not part of length() yet.
    if (sequence->length() + 1 == sequence->group->max_positions) {
      if (!waiting_.empty()) return give_up();
      continue;
    }
    const int64_t position = sequence->computed, needed = KvBlockManager::blocks_for(position + 1);
    if (blocks_.num_free() < needed - static_cast<int64_t>(sequence->block_table.size()))
      return give_up();
    blocks_.grow(sequence->block_table, needed);
    next.rows.push_back({sequence->group, sequence, position, 1});
    next.samples.push_back({sequence, next.num_rows++});
    next.sources.push_back(static_cast<int32_t>(i));
  }
  return next.rows.empty() ? give_up() : &next;
}

void Scheduler::schedule_running(int64_t& budget) {
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    const auto younger = static_cast<int64_t>(running_.size() - 1 - i);
    const int64_t rows = std::min(sequence.length() - sequence.computed, budget - younger);
    if (!secure(sequence, sequence.computed + rows)) return;
    schedule_rows(sequence, rows, budget);
  }
}

void Scheduler::schedule_rows(Sequence& sequence, int64_t num_rows, int64_t& budget) {
  plan().rows.push_back({sequence.group, &sequence, sequence.computed, num_rows});
  plan().num_rows += num_rows;
  budget -= num_rows;
  if (sequence.computed + num_rows == sequence.length())
    plan().samples.push_back({&sequence, plan().num_rows - 1});
}

void Scheduler::admit(int64_t& budget) {
  auto members = static_cast<int64_t>(running_.size());  // that run now or as soon as they can
  int64_t reserved = 0;                                  // blocks that those will need to start
  bool in_order = true;                                  // nothing older waits
  for (size_t i = 0; i < waiting_.size() && members < config_.max_num_seqs;) {
    PromptGroup& group = *waiting_[i];
    if (in_order) {
      while (!group.waiting.empty() && start_next(group, budget)) {
      }
      members = static_cast<int64_t>(running_.size());
      if (group.waiting.empty()) {
        waiting_.pop_front();
        continue;
      }
      in_order = false;
    }
    if (!computed_prompt(group).empty()) return;  // it waits for room, and nobody overtakes
    const int64_t starting =
        std::min(static_cast<int64_t>(group.waiting.size()), config_.max_num_seqs - members);
    if (!prefill(group, starting, reserved, budget)) return;
    members += starting;
    ++i;
  }
}

bool Scheduler::start_next(PromptGroup& group, int64_t& budget) {
  const std::span<const int32_t> source = computed_prompt(group);
  if (source.empty() || static_cast<int64_t>(running_.size()) >= config_.max_num_seqs) return false;
  Sequence& sequence = *group.waiting.front();
  const int64_t prompt_length = group.prompt_length();
  const int64_t total =
      KvBlockManager::blocks_for(std::min(sequence.length() + 1, group.max_positions));
  const int64_t shared = prompt_length / kernels::kKvBlock;
  // The last to start takes the group's table over; so does the first, if a copy has no room.
  const bool holds = !group.block_table.empty();
  bool take_over = holds && group.waiting.size() == 1;
  if (holds && running_.empty()) {
    while (!has_room(total - shared) && evict_prompt(&group)) {
    }
    take_over = take_over || !has_room(total - shared);
  }
  const int64_t needed = total - (take_over ? KvBlockManager::blocks_for(prompt_length) : shared);
  if (!has_room(needed)) return false;

  if (take_over) {
    sequence.block_table = std::move(group.block_table);
    group.block_table.clear();
    drop_prompt(group);
  } else {
    ForkedTable forked = blocks_.fork(source, prompt_length);
    sequence.block_table = std::move(forked.blocks);
    if (forked.copy) plan().copies.push_back(*forked.copy);
  }
  blocks_.grow(sequence.block_table, total);
  sequence.computed = prompt_length;
  sequence.status = SequenceStatus::kRunning;
  group.waiting.pop_front();
  if (group.waiting.empty()) drop_prompt(group);
  group.running.push_back(&sequence);
  running_.push_back(&sequence);
  if (sequence.tokens.empty()) {
    plan().samples.push_back({&sequence, -1});
  } else if (budget > 0) {
    schedule_rows(sequence, std::min(sequence.length() - prompt_length, budget), budget);
  }
  return true;
}

bool Scheduler::prefill(PromptGroup& group, int64_t members, int64_t& reserved, int64_t& budget) {
  if (budget == 0) return false;
  const int64_t prompt_length = group.prompt_length();
  if (group.block_table.empty()) {
    const int64_t needed = KvBlockManager::blocks_for(prompt_length);
    if (&group == waiting_.front() && running_.empty()) {
      while (!has_room(needed) && evict_prompt(&group)) {
      }
      if (!has_room(needed)) return false;
    } else if (!has_room(needed + reserved + 1)) {
      return false;
    }
    blocks_.grow(group.block_table, needed);
    resident_.push_back(&group);
  }
  reserved += members;
  const int64_t rows = std::min(prompt_length - group.computed, budget);
  plan().rows.push_back({&group, nullptr, group.computed, rows});
  plan().num_rows += rows;
  budget -= rows;
  return group.computed + rows == prompt_length;
}

void Scheduler::commit() {
  for (const ScheduledRows& run : plan().rows)
    (run.sequence ? run.sequence->computed : run.group->computed) += run.num_rows;
}

void Scheduler::finish(Sequence& sequence) {
  check_internal(sequence.status == SequenceStatus::kRunning,
                 "Scheduler: a sequence finishes that does not run");
  blocks_.release(sequence.block_table);
  sequence.status = SequenceStatus::kFinished;
  std::erase(sequence.group->running, &sequence);
  std::erase(running_, &sequence);
  settled_ = false;
  for (StepPlan& plan : plans_)
    for (ScheduledSample& sample : plan.samples)
      if (sample.sequence == &sequence) sample.sequence = nullptr;
}

void Scheduler::remove(PromptGroup& group) {
  for (Sequence* sequence : std::vector<Sequence*>(group.running)) finish(*sequence);
  for (Sequence* sequence : group.waiting) sequence->status = SequenceStatus::kFinished;
  if (!group.waiting.empty()) std::erase(waiting_, &group);
  group.waiting.clear();
  drop_prompt(group);
}

bool Scheduler::secure(Sequence& sequence, int64_t positions) {
  const int64_t needed = KvBlockManager::blocks_for(positions);
  while (blocks_.num_free() < needed - static_cast<int64_t>(sequence.block_table.size())) {
    if (evict_prompt(nullptr)) continue;
    const bool itself = running_.back() == &sequence;
    check_internal(!itself || running_.size() > 1, "Scheduler: the only running sequence needs ",
                   needed, " of ", blocks_.num_blocks(), " blocks and cannot have them");
    preempt_youngest();
    if (itself) return false;
  }
  blocks_.grow(sequence.block_table, needed);
  return true;
}

bool Scheduler::has_room(int64_t num_blocks) const {
  const int64_t headroom = running_.empty() ? 0 : blocks_.num_blocks() / kHeadroomDivisor;
  return blocks_.num_free() >= num_blocks + headroom;
}

bool Scheduler::evict_prompt(const PromptGroup* except) {
  PromptGroup* youngest = nullptr;
  for (PromptGroup* group : resident_)
    if (group != except && (!youngest || group->age > youngest->age)) youngest = group;
  if (!youngest) return false;
  drop_prompt(*youngest);
  return true;
}

void Scheduler::drop_prompt(PromptGroup& group) {
  blocks_.release(group.block_table);
  group.computed = 0;
  std::erase(resident_, &group);
}

void Scheduler::preempt_youngest() {
  Sequence& sequence = *running_.back();
  PromptGroup& group = *sequence.group;
  running_.pop_back();
  group.running.pop_back();
  blocks_.release(sequence.block_table);
  sequence.computed = 0;
  sequence.status = SequenceStatus::kWaiting;
  if (group.waiting.empty()) waiting_.push_front(&group);
  group.waiting.push_front(&sequence);
  ++num_preemptions_;
}

std::span<const int32_t> Scheduler::computed_prompt(const PromptGroup& group) const {
  if (!group.block_table.empty() && group.computed == group.prompt_length())
    return group.block_table;
  if (!group.running.empty()) return group.running.front()->block_table;
  return {};
}

}  // namespace moerl
