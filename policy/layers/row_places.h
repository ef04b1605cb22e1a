#pragma once
#include <span>

#include "kernels/attention/attention.h"

namespace moerl {

/// Where the rows of a pass stand: what attention needs beside the activations.
struct RowPlaces {
  std::span<const int32_t> positions;                   ///< [T]
  std::span<const kernels::AttentionSegment> segments;  ///< cover the T rows, in order
  const Tensor& rope_table;  ///< [max_position_embeddings, rotated width]
};

}  // namespace moerl
