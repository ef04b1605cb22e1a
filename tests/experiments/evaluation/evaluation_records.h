#pragma once
#include <string>
#include <vector>

#include "experiments/evaluation/records/eval_record.h"

namespace moerl::eval::testing {

/// A record of suite "s" whose answer is `answer`: correct if it is "good", none if it is "".
inline EvalRecord record_of(int64_t problem, int64_t sample, const std::string& answer,
                            const std::string& suite = "s") {
  using Status = reward::VerdictStatus;
  EvalRecord r;
  r.suite = suite;
  r.problem = problem;
  r.id = "p" + std::to_string(problem);
  r.sample = sample;
  r.response = "<think>wait</think>" + answer;
  r.extracted = answer;
  r.status = answer == "good" ? Status::kCorrect
             : answer.empty() ? Status::kNoAnswer
                              : Status::kIncorrect;
  r.score = r.is_correct() ? 1 : 0;
  r.response_tokens = 10 * (problem + 1);
  r.thinking_tokens = 4;
  return r;
}
inline ProblemRecord problem_of(int64_t problem, const std::string& suite = "s") {
  ProblemRecord p;
  p.suite = suite;
  p.problem = problem;
  p.id = "p" + std::to_string(problem);
  p.data_source = suite;
  p.prompt = "Question " + std::to_string(problem);
  p.ground_truth = "good";
  return p;
}

}  // namespace moerl::eval::testing
