#pragma once
#include <cstdint>

#include "kernels/isa.h"
#include "kernels/sampling/sample_token.h"

namespace moerl::kernels {

template <Isa isa>
struct SampleTokenCpu {
  /// The first id whose C exceeds the threshold, e being exp(z - m) of every token. `prefix` and
  /// `max` come from TokenLogProbCpu::row.
  static int64_t pick(const float* logits, int64_t vocab_size, float inverse_temperature, float max,
                      const float* prefix, float threshold);
  /// The same over stored e.
  static int64_t pick_stored(const float* e, int64_t vocab_size, float threshold);
  /// e[v] = exp(z[v] - max).
  static void exp_row(const float* logits, int64_t vocab_size, float inverse_temperature, float max,
                      float* e);
  /// C of the last token.
  static float sum(const float* e, int64_t vocab_size);
  /// The first id whose logit is `value`; vocab_size if there is none.
  static int64_t find(const float* logits, int64_t vocab_size, float value);
};

/// All rows on the device; params and draws lie there too.
struct SampleTokenArgs {
  int64_t rows, width, vocab_size;
  const float* logits;
  const SampleParams* params;
  TokenDraw* draws;
};

/// Arguments of continue_tokens.
struct ContinueTokensArgs {
  int64_t rows;
  const TokenDraw* draws;
  const int32_t* sources;
  int32_t* token_ids;
};

struct SampleTokenCuda {
  void (*run)(const SampleTokenArgs& args);
  void (*continue_tokens)(const ContinueTokensArgs& args);
};

}  // namespace moerl::kernels
