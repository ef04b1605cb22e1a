#include "common/shared_library.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/error.h"
#include "testing/paths.h"

namespace moerl {
namespace {

using ::testing::HasSubstr;

/// What ConfigError says.
std::string refusal(const SharedLibrary& library) {
  try {
    library.function<int()>("getpid");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(SharedLibraryTest, GivesItsFunctions) {
  Dl_info libc{};
  ASSERT_NE(::dladdr(reinterpret_cast<void*>(&::getpid), &libc), 0);
  const SharedLibrary library(libc.dli_fname, "any system");
  EXPECT_TRUE(library.is_loaded());
  EXPECT_THAT(library.describe(), HasSubstr("found (libc.so"));
  EXPECT_EQ(library.function<int()>("getpid")(), ::getpid());
  EXPECT_THROW(library.function<int()>("moerl_no_such_function"), std::logic_error);
}

TEST(SharedLibraryTest, SaysWhatIsMissing) {
  const SharedLibrary library("/no/such/libmoerl_x.so", "Debian: libx-dev");
  EXPECT_FALSE(library.is_loaded());
  EXPECT_EQ(library.describe(),
            "/no/such/libmoerl_x.so is not there: moerl was built without it (Debian: libx-dev)");
  EXPECT_EQ(refusal(library), "cannot use libmoerl_x.so: " + library.describe());
}

TEST(SharedLibraryTest, SaysWhatTheSystemRefuses) {
  const SharedLibrary library(std::filesystem::path(MOERL_SOURCE_DIR) / "README.md",
                              "Debian: libx-dev");
  EXPECT_FALSE(library.is_loaded());
  EXPECT_THAT(library.describe(), HasSubstr("invalid ELF header"));
  EXPECT_THAT(refusal(library), HasSubstr("cannot use README.md: "));
}

TEST(ProgramDirectoryTest, IsThatOfTheProgram) {
  EXPECT_TRUE(program_directory().string().starts_with(MOERL_BUILD_DIR)) << program_directory();
}

}  // namespace
}  // namespace moerl
