#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "testing/paths.h"
#include "tests/testing/sanitized.h"

namespace {

namespace fs = std::filesystem;

std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  std::string text;
  std::array<char, 4096> buffer;
  while (pipe && std::fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr)
    text += buffer.data();
  return text;
}

// A weak symbol that was compiled for AVX-512 may be the copy that the linker keeps for the whole
// program, and then a machine without it meets an illegal instruction.
TEST(SymbolsTest, InstructionLevelObjectsDefineNoSharedSymbols) {
  if (moerl::testing::kIsSanitized)
    GTEST_SKIP()
        << "a sanitizer keeps functions from being inlined; such a program stays on its machine";
  if (output_of("nm --version 2>/dev/null").empty()) GTEST_SKIP() << "nm is not installed";
  int objects = 0;
  for (const char* level : {"avx2", "avx512", "amx"}) {
    const fs::path folder =
        fs::path(MOERL_BUILD_DIR) / "CMakeFiles" / (std::string("moerl_kernels_") + level + ".dir");
    if (!fs::exists(folder)) continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.path().extension() != ".o") continue;
      ++objects;
      const std::string weak = output_of("nm -C --defined-only '" + entry.path().string() +
                                         "' | grep -E ' [WVu] ' | grep -v ' DW.ref'");
      EXPECT_EQ(weak, "") << entry.path();
    }
  }
  EXPECT_GT(objects, 0) << "no objects below " << MOERL_BUILD_DIR;
}

}  // namespace
