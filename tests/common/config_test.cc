#include "common/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace moerl {
namespace {

struct Inner {
  double lr = 0.5;
  std::optional<int64_t> rank;
  std::optional<double> scale;
  std::vector<int64_t> layers = {3};
};
void visit_fields(FieldVisitor& v, Inner& c) {
  v.field("lr", c.lr, kPositive);
  v.field("rank", c.rank, kAtLeastOne);
  v.field("scale", c.scale, kPositive);
  v.field("layers", c.layers, kNotNegative);
}

struct Outer {
  bool flag = false;
  int64_t count = 3;
  std::string name = "a: \"b\"";
  std::string mode = "fast";
  std::vector<std::string> files = {"x", "y"};
  std::map<std::string, std::string> options = {{"k", "v"}};
  Inner inner;
  std::vector<Inner> list = {{}, {}};
};
void visit_fields(FieldVisitor& v, Outer& c) {
  v.field("flag", c.flag);
  v.field("count", c.count, {0, 10});
  v.field("name", c.name);
  v.choice("mode", c.mode, {"fast", "slow"});
  v.field("files", c.files);
  v.field("options", c.options);
  v.group("inner", c.inner);
  v.list("list", c.list);
  v.ignored("legacy");
}

Outer parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  Outer value;
  ConfigSource("test.yaml", text, overrides).read(value);
  return value;
}

std::string error_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    parse(text, overrides);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(ConfigTest, AbsentFieldsKeepTheirDefaults) {
  const Outer value = parse("");
  EXPECT_EQ(value.count, 3);
  EXPECT_EQ(value.list.size(), 2u);
  EXPECT_EQ(value.inner.lr, 0.5);
}

TEST(ConfigTest, ReadsEveryKindOfField) {
  const Outer value = parse(
      "{flag: true, count: 1e1, name: n, mode: slow, files: [p, q, r], options: {a: 1}, "
      "inner: {lr: 2e-3, rank: 7}, list: [{lr: 1}], legacy: {anything: [1]}}");
  EXPECT_TRUE(value.flag);
  EXPECT_EQ(value.count, 10);
  EXPECT_EQ(value.name, "n");
  EXPECT_EQ(value.mode, "slow");
  EXPECT_THAT(value.files, testing::ElementsAre("p", "q", "r"));
  EXPECT_EQ(value.options.at("a"), "1");
  EXPECT_EQ(value.inner.lr, 2e-3);
  EXPECT_EQ(value.inner.rank, 7);
  ASSERT_EQ(value.list.size(), 1u);
  EXPECT_EQ(value.list[0].lr, 1.0);
}

TEST(ConfigTest, NullEmptiesAnOptionalNumber) {
  EXPECT_EQ(parse("inner: {rank: null}").inner.rank, std::nullopt);
  EXPECT_EQ(parse("inner: {scale: null}").inner.scale, std::nullopt);
  EXPECT_EQ(parse("inner: {scale: 0.25}").inner.scale, 0.25);
  EXPECT_NE(error_of("inner: {scale: -1}").find("inner.scale is '-1', expected a value > 0"),
            std::string::npos);
}

TEST(ConfigTest, ReadsListsOfIntegers) {
  EXPECT_THAT(parse("").inner.layers, testing::ElementsAre(3));
  EXPECT_THAT(parse("inner: {layers: [4, 0]}").inner.layers, testing::ElementsAre(4, 0));
  EXPECT_THAT(parse("inner: {layers: []}").inner.layers, testing::IsEmpty());
  EXPECT_THAT(parse("inner: {layers: 7}").inner.layers, testing::ElementsAre(7));
  EXPECT_NE(error_of("inner: {layers: [1, x]}").find("inner.layers is 'x', expected a list of"),
            std::string::npos);
  EXPECT_NE(error_of("inner: {layers: [-1]}").find("expected values >= 0"), std::string::npos);
  Inner value;
  value.layers = {5, 6};
  value.scale = 0.125;
  Inner again;
  ConfigSource("dump", ConfigDump::to_yaml(value)).read(again);
  EXPECT_EQ(again.layers, value.layers);
  EXPECT_EQ(again.scale, value.scale);
}

TEST(ConfigTest, OverridesReachNestedFieldsAndListItems) {
  const Outer value =
      parse("list: [{lr: 1}, {lr: 2}]", {"inner.lr=0.25", "list.1.lr=4", "flag=true"});
  EXPECT_EQ(value.inner.lr, 0.25);
  EXPECT_EQ(value.list[0].lr, 1);
  EXPECT_EQ(value.list[1].lr, 4);
  EXPECT_TRUE(value.flag);
}

TEST(ConfigTest, ReportsAllViolationsAtOnceWithPathValueAndRange) {
  const std::string error =
      error_of("{count: 11, mode: loud, inner: {lr: 0, momentum: 1}, list: [{lr: x}]}");
  EXPECT_THAT(error, testing::HasSubstr("test.yaml"));
  EXPECT_THAT(error, testing::HasSubstr("count is '11', expected a value in [0, 10]"));
  EXPECT_THAT(error, testing::HasSubstr("mode is 'loud', expected one of fast, slow"));
  EXPECT_THAT(error, testing::HasSubstr("inner.lr is '0', expected a value > 0"));
  EXPECT_THAT(error, testing::HasSubstr(
                         "inner.momentum is not a known key; known here: layers, lr, rank, scale"));
  EXPECT_THAT(error, testing::HasSubstr("list.0.lr is 'x', expected a finite number"));
}

TEST(ConfigTest, RefusesFractionsAndOverflowWhereIntegersAreMeant) {
  EXPECT_THAT(error_of("count: 1.5"), testing::HasSubstr("expected an integer"));
  EXPECT_THAT(error_of("count: 99999999999999999999"), testing::HasSubstr("expected an integer"));
  EXPECT_THAT(error_of("inner: {lr: .inf}"), testing::HasSubstr("expected a finite number"));
}

TEST(ConfigTest, RefusesUnknownOverridesAndMalformedOnes) {
  EXPECT_THAT(error_of("", {"inner.nothing=1"}),
              testing::HasSubstr("inner.nothing is not a known key"));
  EXPECT_THAT(error_of("", {"count"}), testing::HasSubstr("not of the form key=value"));
  EXPECT_THAT(error_of("list: [{lr: 1}]", {"list.5.lr=1"}),
              testing::HasSubstr("not an index below 1"));
  EXPECT_THAT(error_of("count: 1", {"count.deep=1"}), testing::HasSubstr("plain value"));
}

TEST(ConfigTest, RefusesTextThatIsNoMapping) {
  EXPECT_THAT(error_of("[1, 2]"), testing::HasSubstr("expected a mapping"));
  EXPECT_THAT(error_of("{a: [}"), testing::HasSubstr("not YAML"));
}

TEST(ConfigTest, DumpReadsBackToTheSameStruct) {
  Outer value;
  value.inner.lr = 0.1;
  value.inner.rank = 12;
  value.name = "needs: \"quotes\" # and more\n";
  value.list = {{1e-300, std::nullopt}, {3, 5}};
  const std::string yaml = ConfigDump::to_yaml(value);
  const Outer again = parse(yaml);
  EXPECT_EQ(again.name, value.name);
  EXPECT_EQ(again.inner.lr, value.inner.lr);
  EXPECT_EQ(again.inner.rank, value.inner.rank);
  ASSERT_EQ(again.list.size(), 2u);
  EXPECT_EQ(again.list[0].lr, 1e-300);
  EXPECT_EQ(again.list[1].rank, 5);
  EXPECT_EQ(ConfigDump::to_yaml(again), yaml);
}

}  // namespace
}  // namespace moerl
