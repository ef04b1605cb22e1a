#include "experiments/line_chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>
#include <sstream>

#include "tests/experiments/markup.h"

namespace moerl::testing {
namespace {

/// The points of the polylines, in the picture's coordinates (y downwards).
std::vector<std::vector<std::pair<double, double>>> polylines(const std::string& svg) {
  std::vector<std::vector<std::pair<double, double>>> lines;
  const std::regex polyline("<polyline[^>]*points='([^']*)'");
  for (std::sregex_iterator it(svg.begin(), svg.end(), polyline), end; it != end; ++it) {
    std::istringstream in((*it)[1].str());
    auto& points = lines.emplace_back();
    double x = 0, y = 0;
    for (char comma = 0; in >> x >> comma >> y;) points.emplace_back(x, y);
  }
  return lines;
}

void expect_sound(const std::string& svg) {
  EXPECT_EQ(xml_error(svg), "") << svg;
  EXPECT_EQ(count_of(svg, "nan"), 0) << svg;
  EXPECT_EQ(count_of(svg, "inf"), 0) << svg;
  EXPECT_LT(svg.size(), 100000u);
  for (const auto& line : polylines(svg)) {
    for (const auto& [x, y] : line) {
      EXPECT_TRUE(x >= 0 && x <= 420) << x;
      EXPECT_TRUE(y >= 0 && y <= 210) << y;
    }
  }
}

TEST(LineChartTest, PointsLieWhereTheirValuesSay) {
  const std::string svg = line_chart("loss", {{"loss", {{0, 0}, {10, 2}, {20, 1}}}});
  expect_sound(svg);
  const auto lines = polylines(svg);
  ASSERT_EQ(lines.size(), 1u);
  ASSERT_EQ(lines[0].size(), 3u);
  const auto [x0, y0] = lines[0][0];
  const auto [x1, y1] = lines[0][1];
  const auto [x2, y2] = lines[0][2];
  EXPECT_NEAR(x1 - x0, x2 - x1, 1e-3);
  EXPECT_GT(x1, x0);
  EXPECT_NEAR(y0 - y1, 2 * (y0 - y2), 1e-3);  // a larger value is higher up
  EXPECT_LT(y1, y2);
}

TEST(LineChartTest, TitleAndNamesAreEscaped) {
  const std::string svg =
      line_chart("a < b & \"c\"", {{"x<y", {{0, 1}, {1, 2}}}, {"p&q", {{0, 2}, {1, 3}}}});
  expect_sound(svg);
  EXPECT_NE(svg.find("a &lt; b &amp; &quot;c&quot;"), std::string::npos);
  EXPECT_NE(svg.find("x&lt;y"), std::string::npos);
  EXPECT_NE(svg.find("p&amp;q"), std::string::npos);
  EXPECT_EQ(polylines(svg).size(), 2u);
}

TEST(LineChartTest, ASingleCurveHasNoLegend) {
  EXPECT_EQ(line_chart("t", {{"the-name", {{0, 1}, {1, 2}}}}).find("the-name"), std::string::npos);
}

TEST(LineChartTest, ValuesThatAreNotFiniteAreLeftOut) {
  const std::string svg =
      line_chart("t", {{"a", {{0, 1}, {1, std::nan("")}, {2, INFINITY}, {3, -INFINITY}, {4, 3}}}});
  expect_sound(svg);
  EXPECT_EQ(polylines(svg).at(0).size(), 2u);
}

TEST(LineChartTest, UnusualDataStaysInThePicture) {
  const double huge = std::numeric_limits<double>::max() / 4;
  using Points = std::vector<std::pair<double, double>>;
  for (const Points& points : std::vector<Points>{{},
                                                  {{0, std::nan("")}},
                                                  {{5, 3}},
                                                  {{5, 0}},
                                                  {{5, 1e20}},
                                                  {{5, -1e20}},
                                                  {{0, -3}, {1, -2}},
                                                  {{0, 0}, {1, 0}},
                                                  {{0, 1e17}, {1, 1e17 + 16}},
                                                  {{0, 1e-9}, {1, 2e-9}},
                                                  {{0, -huge}, {1, huge}},
                                                  {{0, 5}, {100000, 5.0001}}})
    expect_sound(line_chart("t", {{"a", points}}));
}

}  // namespace
}  // namespace moerl::testing
