#pragma once
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

  bool is_spent() const { return stop_.stop_requested() || Clock::now() >= deadline_; }
  /// @throws WorkBudgetSpent if the budget is spent.
  void check() const {
    if (is_spent()) throw WorkBudgetSpent();
  }

 private:
  Clock::time_point deadline_ = Clock::time_point::max();
  std::stop_token stop_;
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

  /// @throws std::invalid_argument if an option is unknown or out of range; the text names the
  ///   option, what was got and what is known.
  virtual void check_options(const Options& options) const = 0;

  /// The verdict on one completion; its id is left 0. A response of any bytes is an ordinary input.
  /// @throws std::invalid_argument as check_options; WorkBudgetSpent if the budget is spent. Any
  ///   other exception is a defect of the verifier and becomes kInternalError.
  virtual Verdict score(const Sample& sample, const Options& options,
                        const WorkBudget& budget) const = 0;
};

}  // namespace moerl::reward
