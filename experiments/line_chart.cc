#include "experiments/line_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "common/check.h"
#include "experiments/report.h"

namespace moerl {
namespace {

constexpr double kWidth = 420, kHeight = 210, kLeft = 52, kRight = 12, kTop = 30, kBottom = 26;
constexpr int kMaxTicks = 12;  // where values lie closer than doubles can tell, steps end nowhere
constexpr const char* kColors[] = {"#2563eb", "#d97706", "#059669", "#9333ea"};

std::string number(double x) {
  char text[32];
  const double size = std::abs(x);
  if (size != 0 && (size >= 1e5 || size < 1e-3)) {
    std::snprintf(text, sizeof text, "%.1e", x);
  } else {
    std::snprintf(text, sizeof text, "%.4g", x);
  }
  return text;
}

/// A round step that divides the span into about `ticks` parts.
double tick_step(double span, int ticks) {
  const double raw = span / ticks;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 5.0})
    if (factor * power >= raw) return factor * power;
  return 10 * power;
}

/// The rectangle of values shown.
struct Extent {
  double x0, x1, y0, y1;
  double x(double v) const { return kLeft + (v - x0) / (x1 - x0) * (kWidth - kLeft - kRight); }
  double y(double v) const {
    return kHeight - kBottom - (v - y0) / (y1 - y0) * (kHeight - kTop - kBottom);
  }
};

Extent extent_of(const std::vector<ChartSeries>& series) {
  Extent e{INFINITY, -INFINITY, INFINITY, -INFINITY};
  for (const ChartSeries& s : series) {
    for (const auto& [x, y] : s.points) {
      if (!std::isfinite(y)) continue;
      e.x0 = std::min(e.x0, x);
      e.x1 = std::max(e.x1, x);
      e.y0 = std::min(e.y0, y);
      e.y1 = std::max(e.y1, y);
    }
  }
  if (e.x0 > e.x1) return {0, 1, 0, 1};
  if (e.x0 == e.x1) e.x1 = e.x0 + 1;
  if (e.y0 >= 0 && e.y0 < 0.4 * e.y1) e.y0 = 0;  // show the origin where it costs little
  if (e.y0 == e.y1) {
    const double half = std::max(0.5, 0.05 * std::abs(e.y0));
    e.y0 -= half;
    e.y1 += half;
  }
  const double margin = 0.05 * (e.y1 - e.y0);
  e.y1 += margin;
  if (e.y0 != 0) e.y0 -= margin;
  return e;
}

}  // namespace

std::string line_chart(const std::string& title, const std::vector<ChartSeries>& series) {
  const Extent e = extent_of(series);
  std::string svg = concat("<svg viewBox='0 0 ", kWidth, " ", kHeight, "' role='img'><text x='",
                           kLeft, "' y='16' class='title'>", escape_html(title), "</text>");
  const double y_step = tick_step(e.y1 - e.y0, 4);
  const double first_tick = std::ceil(e.y0 / y_step);
  for (int i = 0; i < kMaxTicks; ++i) {
    const double v = (first_tick + i) * y_step;
    if (!(v <= e.y1)) break;
    const double tick = std::abs(v) < y_step * 1e-9 ? 0 : v;
    svg += concat("<line class='grid' x1='", kLeft, "' x2='", kWidth - kRight, "' y1='", e.y(v),
                  "' y2='", e.y(v), "'/><text class='tick' text-anchor='end' x='", kLeft - 5,
                  "' y='", e.y(v) + 3.5, "'>", number(tick), "</text>");
  }
  const double x_step = std::max(tick_step(e.x1 - e.x0, 6), 1.0);
  for (double v = std::ceil(e.x0 / x_step) * x_step; v <= e.x1; v += x_step)
    svg += concat("<text class='tick' text-anchor='middle' x='", e.x(v), "' y='", kHeight - 9, "'>",
                  number(v), "</text>");
  for (size_t i = 0; i < series.size(); ++i) {
    const char* color = kColors[i % std::size(kColors)];
    std::string points;
    size_t shown = 0;
    for (const auto& [x, y] : series[i].points) {
      if (!std::isfinite(y)) continue;
      points += concat(e.x(x), ",", e.y(y), " ");
      ++shown;
    }
    svg += concat("<polyline fill='none' stroke='", color, "' stroke-width='1.6' points='", points,
                  "'/>");
    if (shown <= 24) {
      for (const auto& [x, y] : series[i].points)
        if (std::isfinite(y))
          svg += concat("<circle r='2.4' fill='", color, "' cx='", e.x(x), "' cy='", e.y(y), "'/>");
    }
    if (series.size() > 1)
      svg += concat("<text class='tick' text-anchor='end' fill='", color, "' style='fill:", color,
                    "' x='", kWidth - kRight, "' y='", 16 + 12 * static_cast<double>(i), "'>",
                    escape_html(series[i].name), "</text>");
  }
  return svg + "</svg>";
}

}  // namespace moerl
