#pragma once
#include "policy/weight_source.h"

namespace moerl {

/// How working images are made.
struct PackOptions {
  DType dtype = DType::kBF16;  ///< the working type
  bool with_dgrad = true;      ///< also what backward needs
  /// Of a model that keeps no masters: where their values are read, once.
  WeightSource* source = nullptr;
};

}  // namespace moerl
