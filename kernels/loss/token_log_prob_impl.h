#pragma once
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/isa.h"

namespace moerl::kernels {

/// What a pass over one row of logits gives; letters of token_log_prob.h.
struct LogitsRow {
  float max, sum, lse;
  float entropy;  ///< 0 unless asked for
};

/// Gradient of one row.
struct LogitsRowGrad {
  int32_t target;
  float lse, entropy, dlog_prob, dentropy;
};

template <Isa isa>
struct TokenLogProbCpu {
  /// The row function. In `prefix` (or null) it leaves its sixteen lane sums as they are after
  /// every kPrefixBlock tokens: [vocab_size / kPrefixBlock, 16].
  static LogitsRow row(const float* logits, int64_t vocab_size, float inverse_temperature,
                       bool with_entropy, float* prefix);
  static constexpr int64_t kPrefixBlock = 512;

  /// dlogits [padded_size] of type dtype; may be the memory of logits if fp32. Padding becomes 0.
  static void backward_row(const float* logits, int64_t vocab_size, int64_t padded_size,
                           float inverse_temperature, const LogitsRowGrad& grad, DType dtype,
                           void* dlogits);
};

/// All rows of log_prob_from_logits, on the device.
struct TokenLogProbForwardCuda {
  int64_t rows, width, vocab_size;
  float inverse_temperature;
  const float* logits;
  const int32_t* targets;
  float *log_probs, *entropy, *lse;  ///< entropy and lse may be null
};
/// The gradient of all rows' logits.
struct TokenLogProbBackwardCuda {
  int64_t rows, width, vocab_size;
  float inverse_temperature;
  const float* logits;
  const int32_t* targets;
  const float *lse, *entropy, *dlog_probs, *dentropy;  ///< entropy and dentropy may be null
  DType dtype;
  void* dlogits;  ///< may be the memory of logits if fp32
};

struct TokenLogProbCuda {
  void (*forward)(const TokenLogProbForwardCuda& args);
  void (*backward)(const TokenLogProbBackwardCuda& args);
};

}  // namespace moerl::kernels
