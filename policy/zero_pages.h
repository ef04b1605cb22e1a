#pragma once
#include "kernels/tensor.h"

namespace moerl {

/// fp32 zeros whose pages take no memory until they are written, where they are 2 MiB and more: the
/// masters of a model that no checkpoint has filled.
Tensor zero_pages(Shape shape, Device device);

/// Makes the elements zero, and gives the memory of their pages back if they are 2 MiB and more.
void drop_pages(Tensor& tensor);

}  // namespace moerl
