// The page of an evaluation in a real browser: search, filters, folding, both sides of a
// comparison.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/testing/training_runs.h"

namespace moerl {
namespace {

using testing::file_bytes;
using testing::Outcome;
using testing::run_moerl;

/// Debian's chromium; empty if it is not installed.
std::filesystem::path browser() {
  for (const char* path : {"/usr/bin/chromium", "/usr/bin/chromium-headless-shell"})
    if (std::filesystem::exists(path)) return path;
  return {};
}

/// What a person does, and what the page then shows, as text in the document.
constexpr const char* kVisitor = R"(<script>
window.addEventListener('load', () => setTimeout(() => {
  const shown = () => document.querySelectorAll('#list .problem').length;
  const set = (id, value) => {
    const node = document.getElementById(id);
    node.value = value;
    node.dispatchEvent(new Event('input'));
  };
  const said = [];
  said.push('all ' + shown());
  set('text', 'NUMBERS:');
  said.push('prompt ' + shown());
  set('text', 'no such text');
  said.push('nothing ' + shown());
  set('text', '');
  set('verdict', 'solved');
  const solved = shown();
  set('verdict', 'unsolved');
  said.push('parts ' + (solved + shown()));
  set('verdict', 'all');
  const problem = document.querySelector('#list .problem');
  said.push('closed ' + problem.querySelectorAll('.sample').length);
  problem.open = true;
  setTimeout(() => {
    said.push('open ' + problem.querySelectorAll('.sample').length);
    said.push('folded ' + [...problem.querySelectorAll('.thinking')].every(t => !t.open));
    said.push('sides ' + problem.querySelectorAll('.sides > div').length);
    said.push('plots ' + document.querySelectorAll('#plots svg').length);
    said.push('wider ' + (document.documentElement.scrollWidth > innerWidth));
    const end = document.createElement('p');
    end.textContent = 'VISIT: ' + said.join(', ') + '.';
    document.body.append(end);
  }, 100);
}, 100));
</script>)";

std::string visit(const std::filesystem::path& folder) {
  testing::write_text(folder / "visit.html", file_bytes(folder / "report.html") + kVisitor);
  const Outcome outcome = testing::run_program(
      browser(), {"--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,800",
                  "--user-data-dir=" + (folder / "browser").string(), "--virtual-time-budget=5000",
                  "--dump-dom", "file://" + (folder / "visit.html").string()});
  const size_t begin = outcome.out.rfind("VISIT: ");
  return begin == std::string::npos
             ? "the page's script did not run to its end: " + outcome.err
             : outcome.out.substr(begin, outcome.out.find('.', begin) - begin);
}

TEST(EvalReportPage, SearchFiltersAndFoldingWorkInABrowser) {
  if (browser().empty()) GTEST_SKIP() << "there is no chromium";
  testing::TempDirectory directory;
  testing::train(directory / "run", {"stages.1.total_training_steps=1"});
  for (const char* temperature : {"1", "0"}) {
    const Outcome outcome =
        run_moerl({"eval", directory / "run", "--suite", "val", "--n", "3", "--temperature",
                   temperature, "--output", directory / temperature});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  EXPECT_EQ(visit(directory / "1"),
            "VISIT: all 8, prompt 8, nothing 0, parts 8, closed 0, open 3, folded true, sides 1, "
            "plots 2, wider false");
  const Outcome compared = run_moerl(
      {"eval", "compare", directory / "0", directory / "1", "--output", directory / "both"});
  ASSERT_EQ(compared.exit_code, 0) << compared.err;
  EXPECT_EQ(visit(directory / "both"),
            "VISIT: all 8, prompt 8, nothing 0, parts 8, closed 0, open 6, folded true, sides 2, "
            "plots 4, wider false");
}

}  // namespace
}  // namespace moerl
