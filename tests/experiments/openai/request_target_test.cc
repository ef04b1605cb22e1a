#include "experiments/openai/request_target.h"

#include <gtest/gtest.h>

namespace moerl::openai {
namespace {

TEST(RequestTargetTest, NamesAPathOnce) {
  const struct {
    const char *target, *path;
  } cases[] = {
      {"/v1/models", "/v1/models"},
      {"/v1/models?limit=1", "/v1/models"},
      {"http://host:8000/v1/models?x=http://y", "/v1/models"},
      {"http://host", "/"},
      {"/v1/models/a%20b%2fc", "/v1/models/a b/c"},
      {"/%2541", "/%41"},
      {"/100%", "/100%"},
      {"/%4", "/%4"},
      {"/%zz%-1%+1", "/%zz%-1%+1"},
      {"/a://b/c", "/a://b/c"},
      {"*", "*"},
      {"", ""},
  };
  for (const auto& c : cases) EXPECT_EQ(path_of_target(c.target), c.path) << c.target;
}

}  // namespace
}  // namespace moerl::openai
