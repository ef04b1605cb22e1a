#include "rollout/step_together.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "policy/parallel/collectives.h"

namespace moerl {
namespace {

/// Between two looks for work where nobody has any: while rank 0 waits for verdicts.
constexpr auto kPause = std::chrono::milliseconds(1);

struct Word {
  int32_t has_work;
  int32_t is_over;  // rank 0's counts
};

/// @param is_over  rank 0: that body has returned.
void run_steps(Communicator& comm, Engine& engine, const std::atomic<bool>& is_over) {
  while (true) {
    const bool over = is_over;  // looked at first: then there is no work that is still to come
    const std::vector<std::vector<Word>> words =
        all_gather(comm, std::vector<Word>{{engine.has_work(), over}});
    if (std::any_of(words.begin(), words.end(), [](const auto& w) { return w[0].has_work != 0; })) {
      engine.step_with_others();
    } else if (words[0][0].is_over != 0) {
      return;
    } else if (comm.rank() == 0) {
      std::this_thread::sleep_for(kPause);  // the others wait for this rank's next word
    }
  }
}

/// run_steps, and what an error in it does to the others and to those who wait for this engine.
void run_steps_or_abort(Communicator& comm, Engine& engine, const std::atomic<bool>& is_over) {
  try {
    run_steps(comm, engine, is_over);
  } catch (const std::exception& error) {
    comm.abort(error.what());
    engine.stop();
    throw;
  }
}

}  // namespace

void step_together(Communicator& comm, Engine& engine, const std::function<void()>& body) {
  std::atomic<bool> is_over = false;
  if (comm.rank() > 0) return run_steps_or_abort(comm, engine, is_over);
  std::exception_ptr of_steps, of_body;
  std::thread steps([&] {
    try {
      run_steps_or_abort(comm, engine, is_over);
    } catch (...) {
      of_steps = std::current_exception();
    }
  });
  try {
    body();
  } catch (...) {
    of_body = std::current_exception();
  }
  is_over = true;
  steps.join();
  if (of_steps) std::rethrow_exception(of_steps);
  if (of_body) std::rethrow_exception(of_body);
}

}  // namespace moerl
