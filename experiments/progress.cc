#include "experiments/progress.h"

#include <cmath>
#include <cstdio>

#include "common/check.h"

namespace moerl {
namespace {

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr int kBarWidth = 24;

}  // namespace

std::string format_duration(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(std::max(seconds, 0.0)));
  char text[32];
  if (s >= 3600) {
    std::snprintf(text, sizeof text, "%ldh%02ldm", s / 3600, s / 60 % 60);
  } else if (s >= 60) {
    std::snprintf(text, sizeof text, "%ldm%02lds", s / 60, s % 60);
  } else {
    std::snprintf(text, sizeof text, "%lds", s);
  }
  return text;
}

Progress::~Progress() { clear_line(); }

void Progress::begin_stage(const std::string& stage, int64_t first_step, int64_t total_steps) {
  stage_ = stage;
  first_step_ = step_ = first_step;
  total_steps_ = total_steps;
  numbers_.clear();
  started_ = std::chrono::steady_clock::now();
}

std::string Progress::time_left(int64_t steps_done) const {
  if (steps_done == 0) return "";
  const double elapsed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  const double each = elapsed / static_cast<double>(steps_done);
  return format_duration(each * static_cast<double>(total_steps_ - step_)) + " left";
}

void Progress::update(const std::string& activity) {
  if (!to_terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (line_open_ && now - drawn_ < kRedrawInterval) return;
  drawn_ = now;
  const int64_t filled = total_steps_ == 0 ? 0 : kBarWidth * step_ / total_steps_;
  std::string bar;
  for (int64_t i = 0; i < kBarWidth; ++i) bar += i < filled ? "━" : "╌";
  const std::string left = time_left(step_ - first_step_);
  std::fprintf(stderr, "\r\033[K%s %s %ld/%ld %s%s%s%s%s", stage_.c_str(), bar.c_str(),
               static_cast<long>(step_), static_cast<long>(total_steps_), numbers_.c_str(),
               numbers_.empty() ? "" : " · ", left.c_str(), left.empty() ? "" : " · ",
               activity.c_str());
  std::fflush(stderr);
  line_open_ = true;
}

void Progress::step_done(int64_t step, const std::string& numbers) {
  step_ = step;
  numbers_ = numbers;
  if (to_terminal_) {
    drawn_ = {};
    return update("");
  }
  if (silent_) return;
  const std::string left = time_left(step_ - first_step_);
  std::fprintf(stderr, "%s %ld/%ld %s%s%s\n", stage_.c_str(), static_cast<long>(step_),
               static_cast<long>(total_steps_), numbers.c_str(), left.empty() ? "" : " · ",
               left.c_str());
}

void Progress::note(const std::string& text) {
  if (silent_) return;
  clear_line();
  std::fprintf(stderr, "%s\n", text.c_str());
}

void Progress::clear_line() {
  if (!line_open_) return;
  std::fprintf(stderr, "\r\033[K");
  line_open_ = false;
}

}  // namespace moerl
