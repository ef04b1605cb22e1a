#include "reward/extraction/answer_extraction.h"

#include <gmock/gmock.h>

#include "reward/extraction/boxes.h"

namespace moerl::reward {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> texts(std::string_view text, Extraction extraction) {
  std::vector<std::string> out;
  for (const Candidate& candidate : extract_answers(text, extraction))
    out.push_back(candidate.text);
  return out;
}
std::string first(std::string_view text, Extraction extraction) {
  const auto all = texts(text, extraction);
  return all.empty() ? "(none)" : all[0];
}
std::string last_box(std::string_view text) {
  const auto boxes = find_boxes(text);
  return boxes.empty() ? "(none)" : std::string(boxes.back().content);
}

TEST(BoxesTest, TakesTheLastClosedBox) {
  EXPECT_EQ(last_box("so \\boxed{1} and then \\boxed{\\frac{1}{2}}."), "\\frac{1}{2}");
  EXPECT_EQ(last_box("\\boxed{ {a} \\{b\\} }"), "{a} \\{b\\}");
  EXPECT_EQ(last_box("\\boxed{(3, \\} )}"), "(3, \\} )");
  EXPECT_EQ(last_box("\\fbox{7}"), "7");
  EXPECT_EQ(last_box("$\\boxed 7$ is it"), "7");
  EXPECT_EQ(last_box("\\boxed{1} but \\boxed{2"), "1");
  EXPECT_EQ(last_box("start \\boxed{never closes"), "(none)");
  EXPECT_EQ(last_box("\\boxed{\\text{a \\boxed{b}}}"), "\\text{a \\boxed{b}}");
  EXPECT_EQ(last_box("\\boxedness{5}"), "(none)");
  EXPECT_EQ(last_box(""), "(none)");
}

TEST(BoxesTest, JoinsTheBoxesOfOneStatement) {
  auto joined = [](std::string_view text) {
    return joined_boxes(text, find_boxes(text)).value_or("(none)");
  };
  EXPECT_EQ(joined("\\boxed{1} and \\boxed{2}"), "1, 2");
  EXPECT_EQ(joined("$\\boxed{1}$, $\\boxed{2}$, and $\\boxed{3}$"), "1, 2, 3");
  EXPECT_EQ(joined("\\boxed{1} \\quad \\text{or} \\quad \\boxed{2}"), "1, 2");
  EXPECT_EQ(joined("$x=\\boxed{1}$ or $x=\\boxed{2}$"), "1, 2");
  EXPECT_EQ(joined("\\boxed{0}. Then \\boxed{1} or \\boxed{2}"), "1, 2");
  EXPECT_EQ(joined("\\boxed{1} and then \\boxed{2}"), "(none)");
  EXPECT_EQ(joined("\\boxed{1}. And \\boxed{2}"), "(none)");
  EXPECT_EQ(joined("\\boxed{1} no no no \\boxed{2}"), "(none)");
  EXPECT_EQ(joined("\\boxed{1}"), "(none)");
}

// Each would take minutes if the search began anew at every mark.
TEST(ExtractionTest, IsLinearInTheText) {
  for (const char* part :
       {"\\boxed{", "\\(", "\\[", "$$ ", "a$b$", "x ", "answer ", "####", "$\n"}) {
    std::string text = "answer: ";
    while (text.size() < 1'000'000) text += part;
    for (Extraction extraction :
         {Extraction::kAny, Extraction::kBoxOrMarker, Extraction::kHashes, Extraction::kLastNumber})
      extract_answers(text, extraction);
  }
}

TEST(BoxesTest, ABoxThatIsCutOffIsNoAnswer) {
  for (Extraction extraction : {Extraction::kAny, Extraction::kBoxOrMarker, Extraction::kMarker}) {
    EXPECT_EQ(first("The answer is \\boxed{42", extraction), "(none)");
    EXPECT_EQ(first("start \\boxed{never closes", extraction), "(none)");
  }
  EXPECT_EQ(first("Answer: 4. So \\boxed{4", Extraction::kAny), "4");
}

TEST(BoxesTest, ASentenceInThePlaceIsRead) {
  EXPECT_EQ(texts("\\boxed{\\text{The answer is } 42}", Extraction::kBox).back(), "42");
  EXPECT_EQ(texts("<answer>The answer is 42.</answer>", Extraction::kAnswerTag).back(), "42");
}

TEST(ExtractionTest, PrefersTheBoxToTheMarker) {
  EXPECT_EQ(first("Answer: 4, that is \\boxed{5}", Extraction::kBoxOrMarker), "5");
  EXPECT_EQ(first("Answer: 4", Extraction::kBoxOrMarker), "4");
  EXPECT_EQ(first("Answer: 4", Extraction::kBox), "(none)");
  EXPECT_EQ(first("It is 4", Extraction::kBoxOrMarker), "(none)");
}

TEST(ExtractionTest, TakesWhatFollowsTheLastMarker) {
  const Extraction marker = Extraction::kMarker;
  EXPECT_EQ(first("Answer: 41 was wrong.\nAnswer: 42", marker), "42");
  EXPECT_EQ(first("The final answer is 3.14. I hope it is correct.", marker), "3.14");
  EXPECT_EQ(first("**Answer:** 7\n", marker), "7");
  EXPECT_EQ(first("ANSWER: B", marker), "B");
  EXPECT_EQ(first("Answer:\n\n$$\n9\n$$", marker), "9");
  EXPECT_EQ(first("答案：5。", marker), "5");
  EXPECT_EQ(first("the answer to the second question is 8 apples.", marker), "8 apples");
  EXPECT_EQ(first("The answer is $\\frac{1}{2}$.", marker), "\\frac{1}{2}");
  EXPECT_EQ(first("Answer: 5 Answer:", marker), "5 Answer");
  EXPECT_EQ(first("No answer here", marker), "(none)");
  EXPECT_EQ(first("unanswered: 5", marker), "(none)");
  EXPECT_EQ(first("The answer is 5. The answer is not 6.", marker), "5");
  EXPECT_EQ(first("the correct option is B", marker), "B");
}

TEST(ExtractionTest, HasAPlaceForEachPrompt) {
  EXPECT_EQ(first("<answer> 5 </answer>", Extraction::kAnswerTag), "5");
  EXPECT_EQ(first("<answer>\\boxed{6}</answer>", Extraction::kAnswerTag), "6");
  EXPECT_EQ(first("5", Extraction::kAnswerTag), "(none)");
  EXPECT_EQ(first("so 18\n#### 18\n", Extraction::kHashes), "18");
  EXPECT_EQ(first("so it is 1,234 dollars", Extraction::kLastNumber), "1,234");
  EXPECT_EQ(first("no number", Extraction::kLastNumber), "(none)");
  EXPECT_EQ(first(" x+1 ", Extraction::kNone), "x+1");
  EXPECT_EQ(first("5<|im_end|>6", Extraction::kNone), "5");
}

TEST(ExtractionTest, AnyFallsBackToTheLastFormula) {
  EXPECT_EQ(texts("We get $x=5$ and the sum is $7$. Done", Extraction::kAny).back(), "7");
  EXPECT_EQ(texts("He sold **73**.", Extraction::kAny).back(), "73");
  EXPECT_EQ(texts("so it is -5 exactly", Extraction::kAny).back(), "-5");
}

TEST(ExtractionTest, ReadsTheLetterOfAChoice) {
  for (const char* text :
       {"B", "(B)", "**B**", "$B$", "\\text{(B)}", "B) 42", "B. Rome", "B because", "option B",
        "B不是 A", "\\textbf{(B) }42", "$\\boxed{\\text{B}}$", "b", "(b).", "B, not A", "B (not A)",
        "B, B", "B) Vitamin A"})
    EXPECT_EQ(choice_letter(text, 'D'), 'B') << text;
  EXPECT_EQ(choice_letter("A because", 'D'), 'A');
  for (const char* text :
       {"", "A line", "E", "e", "Because", "42", "B-52", "a line", "b + 1", "A, B", "A or B",
        "B and C", "A/B", "(A) (B)", "A; B; C", "$A$ & $B$", "A B C D"})
    EXPECT_EQ(choice_letter(text, 'D'), 0) << text;
}

}  // namespace
}  // namespace moerl::reward
