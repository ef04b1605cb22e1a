#pragma once
#include <string>
#include <utility>
#include <vector>

namespace moerl {

/// One curve of a chart: points (x, y) with x ascending.
struct ChartSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

/// An inline SVG of line curves over training steps, with axes and a legend if there is more than
/// one. Points that are not finite are left out.
std::string line_chart(const std::string& title, const std::vector<ChartSeries>& series);

}  // namespace moerl
