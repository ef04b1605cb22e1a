#include "reward/verifiers/code.h"

#include <fstream>
#include <future>

#include "common/json.h"
#include "reward/scorer.h"
#include "reward/verifier_registry.h"
#include "reward/verifiers/code_block.h"
#include "reward/verifiers/code_output.h"
#include "reward/verifiers/code_tests.h"
#include "testing/paths.h"
#include "tests/reward/sandbox/sandboxes.h"

namespace moerl::reward {
namespace {

using nlohmann::json;
using enum VerdictStatus;

TEST(CodeBlockTest, LastClosedBlockOfTheLanguageCounts) {
  auto python = [](std::string_view text, bool untagged = false) {
    return last_code_block(text, CodeLanguage::kPython, untagged).value_or("none");
  };
  EXPECT_EQ(python("a\n```python\nx = 1\n```\nb"), "x = 1\n");
  EXPECT_EQ(python("```python\n1\n```\n```Py\n2\n```\n```cpp\n3\n```\n```\n4\n```"), "2\n");
  EXPECT_EQ(python("```python\n1\n```\n```python\n2\n"), "1\n");  // the second is not closed
  EXPECT_EQ(python("```python title=x\n1\n```"), "1\n");
  EXPECT_EQ(python("  ```python3\r\n1\n  ```  \n"), "1\n");
  EXPECT_EQ(python("```python\ns = '''\n```text\n'''\n```"), "s = '''\n```text\n'''\n");
  EXPECT_EQ(python("```python"), "none");
  EXPECT_EQ(python("x = 1"), "none");
  EXPECT_EQ(python("```\n1\n```"), "none");
  EXPECT_EQ(python("```\n1\n```", true), "1\n");
  EXPECT_EQ(last_code_block("```c++\n1\n```", CodeLanguage::kCpp, false), "1\n");
}

TEST(CodeOutputTest, ComparesLinesAndDecimals) {
  EXPECT_TRUE(same_output("1 2\n3\n", "1 2\n3", 0));
  EXPECT_TRUE(same_output("  1\n 3 \n\n", "1\n3", 0));
  EXPECT_TRUE(same_output("1.0 +2e0", "1.00 2", 0));
  EXPECT_TRUE(same_output("-0.0", "0", 0));
  EXPECT_TRUE(same_output("", "\n", 0));
  EXPECT_FALSE(same_output("1", "1\n2", 0));  // only the first line
  EXPECT_FALSE(same_output("1\n2", "1", 0));
  EXPECT_FALSE(same_output("1 2", "1", 0));
  EXPECT_FALSE(same_output("1", "-1", 0));
  EXPECT_FALSE(same_output("0.3333", "0.33333", 0));
  EXPECT_FALSE(same_output("", "0", 0));
  EXPECT_FALSE(same_output("yes", "YES", 0));
  EXPECT_FALSE(same_output("10000000000000000000001", "10000000000000000000002", 0));
  EXPECT_FALSE(same_output("1e", "1", 0));
  EXPECT_TRUE(same_output("0.333333", "0.3333333", 1e-6));
  EXPECT_FALSE(same_output("0.3333", "0.3333333", 1e-6));
  EXPECT_FALSE(same_output("nan", "1", 1e-6));
}

TEST(CodeTestsTest, ReadsTheLayoutsOfTheField) {
  using Kind = CodeTest::Kind;
  const CodeTests pairs =
      parse_code_tests(R"({"inputs": ["1\n", ["2", "3"]], "outputs": ["4", ["5"]]})", "");
  ASSERT_EQ(pairs.tests.size(), 2U);
  EXPECT_EQ(pairs.tests[1].kind, Kind::kStdio);
  EXPECT_EQ(pairs.tests[1].input, "2\n3");
  EXPECT_EQ(pairs.tests[1].output, "5");

  const CodeTests calls =
      parse_code_tests(R"({"inputs": [[[1, 2], 3]], "outputs": [[4]], "fn_name": "f"})", "");
  EXPECT_EQ(parse_json(calls.tests.at(0).call_json),
            parse_json(R"({"function": "f", "args": [[1, 2], 3], "expected": [[4], 4]})"));

  const CodeTests lines =
      parse_code_tests(R"([{"input": "[1, 2]\n3", "output": "[4]", "testtype": "functional"}])",
                       R"({"metadata": "{\"func_name\": \"f\"}"})");
  EXPECT_EQ(parse_json(lines.tests.at(0).call_json),
            parse_json(R"({"function": "f", "args": [[1, 2], 3], "expected": [[4]]})"));

  const CodeTests human =
      parse_code_tests("", R"({"test": "def check(c): pass", "entry_point": "f"})");
  EXPECT_EQ(human.tests.at(0).source, "def check(c): pass\ncheck(f)\n");
  EXPECT_EQ(human.names, std::vector<std::string>{"f"});

  const CodeTests mbpp =
      parse_code_tests(R"_(["assert f(1)", "assert f(2)"])_", R"({"test_setup_code": "x = 1"})");
  ASSERT_EQ(mbpp.tests.size(), 2U);
  EXPECT_EQ(mbpp.tests[1].source, "x = 1\nassert f(2)\n");
  EXPECT_EQ(parse_code_tests("assert f(1) == 2", "").tests.size(), 1U);
  EXPECT_EQ(
      parse_code_tests(R"({"language": "cpp", "test_cases": [{"input": "", "output": ""}]})", "")
          .language,
      "cpp");
}

TEST(CodeTestsTest, RefusesWhatIsNoTest) {
  for (const char* truth :
       {"", "{}", "[]", "42", "text", R"({"inputs": ["1"], "outputs": []})",
        R"({"inputs": 1, "outputs": 1})", R"({"test_cases": [{"input": "1"}]})", R"([1])",
        R"({"test": 5})", R"({"inputs": ["x"], "outputs": ["1"], "fn_name": "f"})",
        R"({"inputs": [1], "outputs": [1], "fn_name": "f"})"})
    EXPECT_THROW(parse_code_tests(truth, ""), CodeTestsError) << truth;
}

/// Programs judged in sandboxes; skipped where the kernel forbids one.
class CodeVerifierTest : public testing::SandboxTest {
 protected:
  static Verdict judge(const std::string& response, const json& truth,
                       const Options& options = {}) {
    static const CodeVerifier verifier;
    return verifier.score({response, truth.dump(), "", "", ""}, options, {});
  }
  static Verdict python(const std::string& code, const json& truth, const Options& options = {}) {
    return judge("```python\n" + code + "\n```", truth, options);
  }
};

const json kSquares = {{"inputs", {"2\n", "3\n"}}, {"outputs", {"4\n", "9\n"}}};
const json kCall = {{"inputs", {"2", "3"}}, {"outputs", {"4", "9"}}, {"fn_name", "square"}};
const json kAsserts = {{"test_list", {"assert square(2) == 4", "assert square(3) == 9"}}};
const json kHuman = {
    {"test",
     "def check(candidate):\n    for i in range(4):\n        assert candidate(i) == i * i\n"},
    {"entry_point", "square"}};

TEST_F(CodeVerifierTest, JudgesInputAndOutput) {
  EXPECT_EQ(python("print(int(input()) ** 2)", kSquares).status, kCorrect);
  const Verdict wrong = python("print(int(input()) * 2)", kSquares);
  EXPECT_EQ(wrong.status, kIncorrect);
  EXPECT_EQ(wrong.score, 0);
  EXPECT_EQ(wrong.detail, "test 2 of 2: printed '6', expected '9'");
  EXPECT_EQ(python("print(int(input()) ** 2)\nraise SystemExit(1)", kSquares).status, kIncorrect);
  EXPECT_EQ(python("print(1 +", kSquares).status, kIncorrect);
  EXPECT_EQ(judge("no code", kSquares).status, kNoAnswer);
  EXPECT_EQ(judge("<think>```python\nprint(int(input()) ** 2)\n```", kSquares).status, kNoAnswer);
  EXPECT_EQ(python("", {{"x", 1}}).status, kGoldError);
}

TEST_F(CodeVerifierTest, JudgesFunctions) {
  const std::string right = "def square(x): return x * x";
  const std::string solution = "class Solution:\n  def square(self, x: List[int]): return x * x";
  for (const json& truth : {kCall, kAsserts, kHuman}) {
    EXPECT_EQ(python(right, truth).status, kCorrect) << truth << python(right, truth).detail;
    EXPECT_EQ(python("def square(x): return x * 2", truth).status, kIncorrect) << truth;
    EXPECT_EQ(python("def square(x): return 1 / 0", truth).status, kIncorrect) << truth;
    EXPECT_EQ(python("def other(x): return x * x", truth).status, kIncorrect) << truth;
    EXPECT_EQ(python("x = (", truth).status, kIncorrect) << truth;
    EXPECT_EQ(python("", truth).status, kIncorrect) << truth;
  }
  EXPECT_EQ(python(solution, kCall).status, kCorrect);
  EXPECT_EQ(python(right, {{"test_list", {"assert ("}}}).status, kGoldError);
  EXPECT_EQ(python("import no_such_module", {{"test_list", {"assert True"}}}).status, kIncorrect);
}

TEST_F(CodeVerifierTest, FractionCountsPassedTests) {
  const Verdict half =
      python("print(4)", kSquares, {{"scoring", "fraction"}, {"accuracy_weight", "2"}});
  EXPECT_EQ(half.status, kIncorrect);
  EXPECT_EQ(half.parts.at("accuracy"), 0.5);
  EXPECT_EQ(half.score, 1);
  const json three = {{"test_list", {"assert f() == 1", "assert f() == 0", "assert f() == 1"}}};
  EXPECT_EQ(python("def f(): return 1", three, {{"scoring", "fraction"}}).score, 2.0 / 3);
  EXPECT_EQ(python("def f(): return 1", three).score, 0);
}

TEST_F(CodeVerifierTest, NamesTheLimit) {
  const Options fast = {{"timeout_s", "0.5"}, {"memory_mb", "128"}};
  EXPECT_EQ(python("while True: pass", kSquares, fast).status, kTimeout);
  EXPECT_EQ(python("def square(x):\n  while True: pass", kAsserts, fast).status, kTimeout);
  EXPECT_EQ(python("x = []\nwhile True: x.append(bytearray(1 << 24))", kSquares, fast).status,
            kLimit);
  EXPECT_EQ(python("def square(x): return bytearray(1 << 40)", kAsserts, fast).status, kIncorrect);
  EXPECT_EQ(python("while True: print('x' * 10000)", kSquares).status, kLimit);
}

TEST_F(CodeVerifierTest, CompilesAndRunsCpp) {
  if (::access("/usr/bin/g++", X_OK) != 0) GTEST_SKIP() << "there is no /usr/bin/g++";
  auto cpp = [](const std::string& code) {
    return judge("```cpp\n" + code + "\n```", kSquares, {{"language", "cpp"}});
  };
  const Verdict right =
      cpp("#include <iostream>\nint main() { long x; std::cin >> x; std::cout << x * x; }");
  EXPECT_EQ(right.status, kCorrect) << right.detail;
  EXPECT_EQ(cpp("#include <cstdio>\nint main() { puts(\"5\"); }").status, kIncorrect);
  const Verdict broken = cpp("int main() { return x; }");
  EXPECT_EQ(broken.status, kIncorrect);
  EXPECT_NE(broken.detail.find("was not declared in this scope"), std::string::npos)
      << broken.detail;
  EXPECT_EQ(cpp("#include <cstdlib>\nint main() { abort(); }").status, kIncorrect);
  // Attacks on the compiler.
  EXPECT_NE(cpp("#include \"/etc/passwd\"\nint main() {}").detail.find("No such file"),
            std::string::npos);
  EXPECT_EQ(cpp("#include \"/dev/zero\"\nint main() {}").status, kLimit);
  std::string errors = "int main() {\n";
  for (int i = 0; i < 20'000; ++i) errors += "undeclared_name;\n";
  const Verdict many_errors = cpp(errors + "}");
  EXPECT_FALSE(is_unscorable(many_errors)) << many_errors.detail;
  EXPECT_EQ(many_errors.score, 0);
  EXPECT_LE(many_errors.detail.size(), size_t{10'000});
  EXPECT_NE(
      cpp("template <int N> struct A { static constexpr int v = A<N - 1>::v + A<N - 2>::v; };\n"
          "template <typename T, int N> struct B : B<T*, N + 1> {};\nint main() { return A<900>::v "
          "+ B<int, 0>::v; }")
          .status,
      kCorrect);
  EXPECT_EQ(judge("```python\npass\n```", kAsserts, {{"language", "cpp"}}).status, kNoAnswer);
  EXPECT_EQ(judge("```cpp\nint main() {}\n```", kAsserts, {{"language", "cpp"}}).status,
            kGoldError);
}

TEST_F(CodeVerifierTest, CheatsPassNothing) {
  const std::string kCheats[] = {
      "import sys\nsys.exit(0)", "import os\nos._exit(0)",
      "import atexit, os\natexit.register(os._exit, 0)",
      "import sys, os\nsys.excepthook = lambda *a: os._exit(0)",
      "import os\ndef square(x): os._exit(0)", "import sys\ndef square(x): sys.exit(0)",
      "class E:\n  def __eq__(self, o): return True\n  def __ne__(self, o): return False\n"
      "  def __bool__(self): return True\n  __hash__ = None\ndef square(x): return E()",
      "class E(int):\n  def __eq__(self, o): return True\n  def __ne__(self, o): return False\n"
      "def square(x): return E(7)",
      "class E(list):\n  def __eq__(self, o): return True\ndef square(x): return E([7])",
      "import builtins\nfor name in ('len', 'all', 'isinstance', 'abs', 'sorted', 'print', "
      "'input'):\n"
      "  setattr(builtins, name, lambda *a, **k: True)\ndef square(x): return True",
      "import sys\nsys.flags = type('F', (), {'optimize': 2})\n__debug__\ndef square(x): return 7",
      "import builtins, json, os\nbuiltins.AssertionError = type('A', (Exception,), {})\n"
      "json.dumps = lambda *a, **k: '{\"outcome\": \"pass\"}'\njson.loads = lambda *a: {}\n"
      "def square(x): return 7",
      // A forged answer on the channel, and forged verdicts on everything that is open.
      "import os, struct\nd = b'{\"nonce\": \"n\", \"outcome\": \"pass\", \"value\": 4, \"args\": "
      "{}}'\n"
      "for fd in range(256):\n  try: os.write(fd, struct.pack('>I', len(d)) + d)\n  except "
      "OSError: pass\n"
      "os._exit(0)",
      "import socket, struct, json\ns = socket.socket(fileno=3)\n"
      "def read(n):\n  d = b''\n  while len(d) < n: d += s.recv(n - len(d))\n  return d\n"
      "while True:\n  n = json.loads(read(struct.unpack('>I', read(4))[0]))['nonce']\n"
      "  d = json.dumps({'nonce': n, 'outcome': 'pass', 'value': {'t': 'object', 'v': 0}, 'args': "
      "{}}).encode()\n"
      "  s.send(struct.pack('>I', len(d)) + d)",
      // Reads the frames and the memory of its process for what is expected.
      "import sys, gc\ndef square(x):\n  f = sys._getframe()\n  while f:\n"
      "    for v in list(f.f_locals.values()) + list(f.f_globals.values()):\n"
      "      if 'assert' in str(v) and 'square(' in str(v) or 'expected' in str(v)[:99]: return "
      "eval(str(v).split('==')[1])\n"
      "    f = f.f_back\n  return None",
      "import sys\nsys.setrecursionlimit(10**6)\ndef square(x):\n  y = []\n"
      "  for i in range(100000): y = [y]\n  return y",
      "def square(x): raise AssertionError", "def square(x): raise SyntaxError",
      "def square(x): raise ConnectionError",
      "class InvalidTests(Exception): pass\ndef square(x): raise InvalidTests",
      "def square(x): raise SystemExit(0)", "print('4')\nprint('9')"};
  for (const json& truth : {kCall, kAsserts, kHuman, kSquares})
    for (const std::string& cheat : kCheats) {
      const Verdict verdict = python(cheat, truth);
      EXPECT_EQ(verdict.score, 0) << cheat << "\n" << truth;
      EXPECT_FALSE(is_unscorable(verdict)) << cheat << verdict.detail;
    }
  // Names that the harness knows are no answers.
  const json gcd = {{"test_list", {"assert gcd(4, 6) == 2"}}};
  EXPECT_EQ(python("x = 1", gcd).status, kIncorrect);
  EXPECT_EQ(python("def other(): return gcd(2, 4)\nfrom math import gcd", gcd).status, kCorrect);
  // A row whose expression names a module is not judged with the program's own module.
  const json close = {{"test_list", {"assert math.isclose(square(2), 4)"}}};
  EXPECT_EQ(
      python("class math:\n  isclose = lambda *a: True\ndef square(x): return 7", close).status,
      kIncorrect);
  EXPECT_EQ(python("def square(x): return 4.0", close).status, kCorrect);
}

TEST_F(CodeVerifierTest, CanonicalSolutionsOfMbppPass) {
  const std::string path = MOERL_SOURCE_DIR "/../shared/data/code/mbpp.jsonl";
  std::ifstream in(path);
  if (!in) GTEST_SKIP() << path << " is not on this machine";
  std::string line;
  for (int number = 0; std::getline(in, line); ++number) {
    // Some, and those that need their setup code after the program.
    if (number % 40 != 0 && line.find("Node(") == std::string::npos) continue;
    const json row = parse_json(line);
    const Verdict verdict = python(row["code"], row);
    EXPECT_EQ(verdict.status, kCorrect) << row["task_id"] << verdict.detail;
  }
}

TEST_F(CodeVerifierTest, AgreesWithCasesOfOtherProjects) {
  const std::string path = MOERL_SOURCE_DIR "/../shared/data/reward_cases/format_cases.jsonl";
  std::ifstream in(path);
  if (!in) GTEST_SKIP() << path << " is not on this machine";
  int num_checked = 0;
  for (std::string line; std::getline(in, line);) {
    const json row = parse_json(line);
    const std::string kind = row["kind"];
    // A note marks a rule of that project: refused modules, another partial score.
    if ((kind != "code_stdio" && !kind.starts_with("code_function_tests")) || row.contains("note"))
      continue;
    const json& input = row["input"];
    json truth = {{"language", row["params"]["language"]}};
    if (kind == "code_stdio")
      truth["test_cases"] = input["cases"];
    else
      truth["test_list"] = input["tests"];
    double expected = 0;
    for (const json& each : row["expected"])
      expected += each.get<double>() / static_cast<double>(row["expected"].size());
    const std::string mark = row["params"]["language"];
    const Verdict verdict =
        judge("```" + mark + "\n" + input["program"].get<std::string>() + "\n```", truth,
              {{"scoring", "fraction"}});
    EXPECT_NEAR(verdict.score, expected, 1e-9) << row["id"] << verdict.detail;
    ++num_checked;
  }
  EXPECT_GE(num_checked, 15);
}

TEST_F(CodeVerifierTest, AThousandJobsAtOnceAreAllRight) {
  Scorer scorer(make_verifier_registry(), {.num_threads = 4, .deadline_ms = 120'000});
  std::vector<ScoreItem> items;
  for (int i = 0; i < 1000; ++i) {
    // Every tenth prints what the job before it should.
    const std::string printed = std::to_string(i % 10 == 9 ? i - 1 : i);
    items.push_back(
        {.verifier = "code",
         .sample = {
             .response = "```python\nprint(" + printed + ")\n```",
             .ground_truth = json{{"inputs", {""}}, {"outputs", {std::to_string(i)}}}.dump()}});
  }
  std::promise<std::vector<Verdict>> promise;
  scorer.submit_batch(
      std::move(items), {}, [&](std::exception_ptr error, std::vector<Verdict> verdicts) {
        error ? promise.set_exception(error) : promise.set_value(std::move(verdicts));
      });
  const std::vector<Verdict> verdicts = promise.get_future().get();
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(verdicts.at(static_cast<size_t>(i)).status, i % 10 == 9 ? kIncorrect : kCorrect)
        << i << verdicts[static_cast<size_t>(i)].detail;
}

TEST_F(CodeVerifierTest, OptionsAreChecked) {
  const CodeVerifier verifier;
  verifier.check_options({{"language", "cpp"}, {"timeout_s", "2.5"}});
  for (const Options& options : {Options{{"language", "rust"}}, Options{{"timeout_s", "0"}},
                                 Options{{"memory_mb", "1"}}, Options{{"no_such", "1"}}})
    EXPECT_THROW(verifier.check_options(options), std::invalid_argument);
}

}  // namespace
}  // namespace moerl::reward
