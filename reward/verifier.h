#pragma once
#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "reward/sample.h"
#include "reward/verdict.h"

namespace moerl::reward {

/// Thrown by WorkBudget::check; the scorer turns it into the status kTimeout.
class WorkBudgetSpent : public std::runtime_error {
 public:
  WorkBudgetSpent() : std::runtime_error("the work budget is spent") {}
};

/// How long a verifier may work on one sample. A verifier whose work is not bounded by its own
/// limits calls check() inside its loops.
class WorkBudget {
 public:
  using Clock = std::chrono::steady_clock;

  /// Never spent.
  WorkBudget() = default;
  WorkBudget(Clock::time_point deadline, std::stop_token stop)
      : deadline_(deadline), stop_(std::move(stop)) {}

  /// Time until the deadline; at most a day, never negative.
  Clock::duration remaining() const {
    const Clock::time_point now = Clock::now();
    return std::clamp<Clock::duration>(deadline_ - now, Clock::duration::zero(),
                                       std::chrono::hours(24));
  }
  const std::stop_token& stop() const { return stop_; }
  /// A budget of this one's remaining time over `parts`.
  WorkBudget share(size_t parts) const {
    return {Clock::now() + remaining() / static_cast<int64_t>(parts), stop_};
  }

  bool is_spent() const { return stop_.stop_requested() || Clock::now() >= deadline_; }
  /// Until the deadline; not below zero.
  std::chrono::milliseconds time_left() const {
    if (deadline_ == Clock::time_point::max()) return std::chrono::hours(24);
    return std::max(std::chrono::milliseconds(0),
                    std::chrono::floor<std::chrono::milliseconds>(deadline_ - Clock::now()));
  }
  /// Stop is requested when the budget is taken back before the deadline.
  const std::stop_token& stop_token() const { return stop_; }
  /// @throws WorkBudgetSpent if the budget is spent.
  void check() const {
    if (is_spent()) throw WorkBudgetSpent();
  }

 private:
  Clock::time_point deadline_ = Clock::time_point::max();
  std::stop_token stop_;
};

/// Facts about a sample that a verifier needs and that take work or time to have.
struct SampleNeeds {
  bool token_ids = false;
  bool correctness = false;  ///< is_correct: known when the reward's first part has been judged
  bool group = false;        ///< known when the first parts of the whole group have been judged
};

/// Judges completions by rule. Implementations hold no mutable state: every method may be called
/// from many threads at once, and the verdict is a pure function of (sample, options).
class Verifier {
 public:
  virtual ~Verifier() = default;

  /// The name that recipes use, such as "countdown".
  virtual std::string_view name() const = 0;
  /// One line for people, with the options and their defaults.
  virtual std::string_view description() const = 0;
  /// The names of the parts that every verdict has.
  virtual std::vector<std::string> part_names() const = 0;
  /// What must be known of a sample before it is judged.
  virtual SampleNeeds needs() const { return {}; }

  /// @throws std::invalid_argument if an option is unknown or out of range; the text names the
  ///   option, what was got and what is known.
  virtual void check_options(const Options& options) const = 0;

  /// The verdict on one completion; its id is left 0. A response of any bytes is an ordinary input.
  /// @throws std::invalid_argument as check_options; WorkBudgetSpent if the budget is spent. Any
  ///   other exception is a defect of the verifier and becomes kInternalError.
  virtual Verdict score(const Sample& sample, const Options& options,
                        const WorkBudget& budget) const = 0;

  /// How many samples score_batch likes to get at once. 1: it is never called.
  virtual size_t max_batch_size() const { return 1; }
  /// The verdicts on samples that share their options, in order. Each is the verdict that score
  /// gives. The budget is that of one sample times their number plus one.
  virtual std::vector<Verdict> score_batch(const std::vector<const Sample*>& samples,
                                           const Options& options, const WorkBudget& budget) const {
    std::vector<Verdict> verdicts;
    for (const Sample* sample : samples) verdicts.push_back(score(*sample, options, budget));
    return verdicts;
  }
};

}  // namespace moerl::reward
