#pragma once
#include "kernels/attention/attention.h"
#include "kernels/list.h"

namespace moerl {

/// Where the rows of a pass stand: what attention needs beside the activations. Made once a pass,
/// whose ops share the copies on the device.
struct RowPlaces {
  kernels::List<int32_t> positions;  ///< [T]
  kernels::SegmentList segments;     ///< cover the T rows, in order
  const Tensor& rope_table;          ///< [max_position_embeddings, rotated width]
};

}  // namespace moerl
