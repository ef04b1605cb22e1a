#include "experiments/evaluation/suite/prompt_presets.h"

#include <array>

#include "common/check.h"

namespace moerl::eval {
namespace {

// The wording is the one that published scores were measured with.
constexpr std::array kPresets = {
    PromptPreset{"plain", "{question}"},
    // DeepSeek-R1, Qwen2.5-Math
    PromptPreset{"boxed",
                 "{question}\nPlease reason step by step, and put your final answer within "
                 "\\boxed{}."},
    // verl's GSM8K
    PromptPreset{"gsm8k",
                 "{question} Let's think step by step and output the final answer after \"####\"."},
    // simple-evals, DAPO
    PromptPreset{"answer_line",
                 "Solve the following math problem step by step. The last line of your response "
                 "should be of the form Answer: $Answer (without quotes) where $Answer is the "
                 "answer to the problem.\n\n{question}\n\nRemember to put your answer on its own "
                 "line after \"Answer:\"."},
    // simple-evals
    PromptPreset{"letter",
                 "Answer the following multiple choice question. The last line of your response "
                 "should be of the following format: 'Answer: $LETTER' (without quotes) where "
                 "LETTER is one of {letters}. Think step by step before answering.\n\n{question}"},
    PromptPreset{"humaneval",
                 "Read the following function signature and docstring, and fully implement the "
                 "function described. Your response should only contain the code for this "
                 "function.\n\n{question}"},
    // Austin et al. 2021, without examples
    PromptPreset{"mbpp",
                 "You are an expert Python programmer, and here is your task: {question}\n\nWrite "
                 "the program in one ```python block."},
};

}  // namespace

std::vector<std::string> prompt_preset_names() {
  std::vector<std::string> names;
  for (const PromptPreset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

const PromptPreset& prompt_preset(std::string_view name) {
  std::string known;
  for (const PromptPreset& preset : kPresets) {
    if (preset.name == name) return preset;
    known += concat(known.empty() ? "" : ", ", preset.name);
  }
  check(false, "prompt preset is '", name, "', expected one of ", known);
  return kPresets[0];
}

}  // namespace moerl::eval
