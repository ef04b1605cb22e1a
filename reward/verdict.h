#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace moerl::reward {

/// How the judging of one completion ended; the values are those of the wire's VerdictStatus.
enum class VerdictStatus {
  kCorrect = 1,
  kIncorrect = 2,
  kNoAnswer = 3,       ///< no answer in the place where it belongs
  kUnparsable = 4,     ///< there is an answer and it is not well formed
  kLimit = 5,          ///< the answer is larger than the verifier's limits on work
  kTimeout = 6,        ///< the verifier was cut at its deadline
  kGoldError = 7,      ///< the ground truth is not usable
  kInternalError = 8,  ///< the verifier itself failed
};

inline constexpr std::array kVerdictStatuses = {
    VerdictStatus::kCorrect,    VerdictStatus::kIncorrect,    VerdictStatus::kNoAnswer,
    VerdictStatus::kUnparsable, VerdictStatus::kLimit,        VerdictStatus::kTimeout,
    VerdictStatus::kGoldError,  VerdictStatus::kInternalError};

/// Lower-case name, such as "correct" or "no_answer".
constexpr std::string_view status_name(VerdictStatus status) {
  constexpr std::array<std::string_view, 8> kNames = {"correct",    "incorrect",     "no_answer",
                                                      "unparsable", "limit",         "timeout",
                                                      "gold_error", "internal_error"};
  return kNames.at(static_cast<size_t>(status) - 1);
}

/// What a verifier says about one completion.
struct Verdict {
  /// The id of the ScoreItem that was judged; 0 where there is none.
  uint64_t id = 0;
  /// What training maximises: the weighted sum of the parts.
  double score = 0;
  VerdictStatus status = VerdictStatus::kInternalError;
  /// The answer that was found in the response, cut at kMaxExtractedBytes; may be empty.
  std::string extracted;
  /// Parts by name, such as "accuracy" and "format", before their weights.
  std::map<std::string, double> parts;
  /// For people: why the status is what it is; may be empty.
  std::string detail;

  bool operator==(const Verdict&) const = default;
};

inline constexpr size_t kMaxExtractedBytes = 4096;

/// True if the sample has no score, which is not the same as a wrong answer: training leaves such a
/// sample out and counts it.
constexpr bool is_unscorable(VerdictStatus status) {
  return status == VerdictStatus::kGoldError || status == VerdictStatus::kInternalError;
}
inline bool is_unscorable(const Verdict& verdict) { return is_unscorable(verdict.status); }

}  // namespace moerl::reward
