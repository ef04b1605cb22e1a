#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace moerl {

/// What the user sees while a run goes on: on a terminal one line that is redrawn in place,
/// elsewhere a plain line whenever a step is done.
class Progress {
 public:
  /// @param to_terminal  redraw in place; chosen by the caller (isatty).
  /// @param silent  show nothing: another rank of the run speaks for all.
  explicit Progress(bool to_terminal, bool silent = false)
      : to_terminal_(to_terminal && !silent), silent_(silent) {}
  ~Progress();

  void begin_stage(const std::string& stage, int64_t first_step, int64_t total_steps);
  /// The moving line during a step, such as "generating 128/256". Ignored when not on a terminal.
  void update(const std::string& activity);
  /// A finished step with its most telling numbers.
  void step_done(int64_t step, const std::string& numbers);
  /// A line that stays.
  void note(const std::string& text);

 private:
  void clear_line();
  std::string time_left(int64_t steps_done) const;

  bool to_terminal_;
  bool silent_;
  bool line_open_ = false;
  std::string stage_, numbers_;
  int64_t first_step_ = 0, total_steps_ = 0, step_ = 0;
  std::chrono::steady_clock::time_point started_, drawn_;
};

/// 3725 -> "1h02m", 65 -> "1m05s", 9 -> "9s".
std::string format_duration(double seconds);

}  // namespace moerl
