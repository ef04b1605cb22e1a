#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "reward/verifier_registry.h"

namespace moerl::reward {

/// Hangs, ignoring its budget, on the response "hang" until release() is called; spins on its
/// budget for "spin"; throws for "throw"; anything else is correct. Counts what it has begun.
class HangingVerifier final : public Verifier {
 public:
  ~HangingVerifier() override { release(); }

  std::string_view name() const override { return "hanging"; }
  std::string_view description() const override { return "for tests"; }
  std::vector<std::string> part_names() const override { return {"accuracy"}; }
  void check_options(const Options&) const override {}

  Verdict score(const Sample& sample, const Options&, const WorkBudget& budget) const override {
    std::unique_lock lock(mutex_);
    ++num_begun_;
    changed_.notify_all();
    if (sample.response == "hang") changed_.wait(lock, [&] { return is_released_; });
    ++num_ended_;
    changed_.notify_all();
    lock.unlock();
    if (sample.response == "throw") throw std::logic_error("a defect");
    while (sample.response == "spin") budget.check();
    Verdict verdict;
    verdict.status = VerdictStatus::kCorrect;
    verdict.score = 1;
    verdict.extracted = sample.response;
    verdict.parts = {{"accuracy", 1}};
    return verdict;
  }

  void release() {
    const std::lock_guard lock(mutex_);
    is_released_ = true;
    changed_.notify_all();
  }
  void wait_until_begun(int count) const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return num_begun_ >= count; });
  }
  int num_begun() const {
    const std::lock_guard lock(mutex_);
    return num_begun_;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable int num_begun_ = 0, num_ended_ = 0;
  bool is_released_ = false;
};

/// The verifiers of the project and `hanging`.
inline std::shared_ptr<VerifierRegistry> make_test_registry(
    std::shared_ptr<const Verifier> extra = nullptr) {
  auto registry = make_verifier_registry();
  if (extra) registry->add(std::move(extra));
  return registry;
}

/// An item for HangingVerifier.
inline ScoreItem hanging_item(uint64_t id, const std::string& response) {
  return {id, "hanging", {response, "", "", "", ""}, {}};
}

/// A countdown item with numbers 1 2 3 and target 9.
inline ScoreItem countdown_item(uint64_t id, const std::string& answer) {
  return {id,
          "countdown",
          {"<answer>" + answer + "</answer>", R"({"numbers": [1, 2, 3], "target": 9})", "", "", ""},
          {}};
}

}  // namespace moerl::reward
