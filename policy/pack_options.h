#pragma once
#include "policy/weight_source.h"

namespace moerl {

/// How working images are made.
struct PackOptions {
  Precision precision = DType::kBF16;
  bool with_dgrad = true;  ///< also what backward needs
  /// Of a model that keeps no masters: where their values are read, once.
  WeightSource* source = nullptr;

  /// For a layer whose products are never in FP8.
  PackOptions without_fp8() const {
    PackOptions options = *this;
    options.precision.is_fp8 = false;
    return options;
  }
};

}  // namespace moerl
