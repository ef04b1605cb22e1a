#pragma once
#include "policy/parameter.h"

namespace moerl {

/// Where the weights of a model come from.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// Writes elements [begin, end) of a parameter, in row order. Called from several threads at
  /// once, each of which flushes denormals to zero, and for some elements twice.
  /// @param dtype  of `out`: kF32 or kBF16 (rounded from fp32 to nearest, ties to even).
  virtual void read(const Parameter& parameter, int64_t begin, int64_t end, DType dtype,
                    void* out) = 0;
  /// The parameter is not needed again.
  virtual void finished(const Parameter&) {}
};

}  // namespace moerl
