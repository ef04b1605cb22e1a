// Runs every fuzz target on its corpus and on mutations of it: a bounded, repeatable piece of
// fuzzing for every build. MOERL_FUZZ_RUNS sets how many mutations a target gets.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/check.h"
#include "common/file.h"
#include "testing/paths.h"
#include "tests/fuzz/mutator.h"

#define TARGET(name) extern "C" int fuzz_##name(const uint8_t* data, size_t size);
#include "fuzz_targets.inc"
#undef TARGET

namespace moerl {
namespace {

namespace fs = std::filesystem;

struct Target {
  const char* name;
  int (*run)(const uint8_t* data, size_t size);
};
constexpr Target kTargets[] = {
#define TARGET(name) {#name, fuzz_##name},
#include "fuzz_targets.inc"
#undef TARGET
};
void PrintTo(const Target& target, std::ostream* out) { *out << target.name; }

constexpr int64_t kDefaultRuns = 3000;

int64_t num_runs() {
  const char* text = std::getenv("MOERL_FUZZ_RUNS");
  return text == nullptr ? kDefaultRuns : std::atoll(text);
}

// What a fatal signal leaves behind: the input that caused it.
const std::string* running_input = nullptr;
std::string crash_file;
extern "C" void save_running_input(int signal) {
  if (FILE* out = std::fopen(crash_file.c_str(), "wb");
      out != nullptr && running_input != nullptr) {
    std::fwrite(running_input->data(), 1, running_input->size(), out);
    std::fclose(out);
    std::fprintf(stderr, "signal %d; the input is in %s\n", signal, crash_file.c_str());
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

/// Files of tests/fuzz/corpus/<target>, in name order.
std::vector<std::string> corpus_of(const std::string& target) {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(fs::path(MOERL_SOURCE_DIR) / "tests/fuzz/corpus" / target))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> inputs;
  for (const fs::path& path : paths) inputs.push_back(read_file(path));
  return inputs;
}

class FuzzTest : public ::testing::TestWithParam<Target> {
 protected:
  /// Whether the target took the input as it must: with no exception.
  bool survives(const std::string& input) {
    running_input = &input;
    try {
      GetParam().run(reinterpret_cast<const uint8_t*>(input.data()), input.size());
      running_input = nullptr;
      return true;
    } catch (const std::exception& error) {
      std::ofstream(crash_file, std::ios::binary) << input;
      ADD_FAILURE() << error.what() << "\nthe input is in " << crash_file;
    }
    running_input = nullptr;
    return false;
  }
  void SetUp() override {
    crash_file = concat(::testing::TempDir(), "/crash-", GetParam().name);
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT})
      std::signal(signal, save_running_input);
  }
  void TearDown() override {
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) std::signal(signal, SIG_DFL);
  }
};

TEST_P(FuzzTest, SurvivesItsCorpusAndMutations) {
  const std::vector<std::string> corpus = corpus_of(GetParam().name);
  ASSERT_FALSE(corpus.empty()) << "tests/fuzz/corpus/" << GetParam().name << " is empty";
  ASSERT_TRUE(survives(""));
  for (const std::string& input : corpus) ASSERT_TRUE(survives(input));
  testing::Mutator mutator(corpus, hash64(GetParam().name));
  for (int64_t run = 0; run < num_runs(); ++run) ASSERT_TRUE(survives(mutator.next()));
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzTest, ::testing::ValuesIn(kTargets),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MutatorTest, RepeatsItselfAndChangesItsInput) {
  const std::vector<std::string> corpus = {"{\"a\": [1, 2, 3]}", "{\"b\": null}"};
  testing::Mutator a(corpus, 7), b(corpus, 7), other(corpus, 8);
  int changed = 0, different = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string text = a.next();
    ASSERT_EQ(text, b.next());
    changed += text != corpus[0] && text != corpus[1];
    different += text != other.next();
  }
  EXPECT_GT(changed, 90);
  EXPECT_GT(different, 90);
}

}  // namespace
}  // namespace moerl
