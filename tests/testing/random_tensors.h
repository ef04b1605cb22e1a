#pragma once
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "kernels/tensor.h"

namespace moerl::testing {

/// Values in [low, high) that depend on the seed only, equal on every machine.
inline std::vector<float> random_values(int64_t count, uint64_t seed, float low = -1.0f,
                                        float high = 1.0f) {
  std::mt19937_64 generator(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values)
    value = low + (high - low) * static_cast<float>(generator() >> 40) * 0x1p-24f;
  return values;
}

/// A tensor of the values, rounded to its type.
inline Tensor tensor_of(Shape shape, DType dtype, const std::vector<float>& values) {
  if (dtype == DType::kF32) return Tensor::from<float>(std::move(shape), values);
  std::vector<bf16> rounded;
  for (float value : values) rounded.push_back(to_bf16(value));
  return Tensor::from<bf16>(std::move(shape), rounded);
}

inline Tensor random_tensor(Shape shape, DType dtype, uint64_t seed, float low = -1.0f,
                            float high = 1.0f) {
  const int64_t count = shape.numel();
  return tensor_of(std::move(shape), dtype, random_values(count, seed, low, high));
}

/// The elements as floats, in memory order.
inline std::vector<float> to_floats(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] =
        tensor.dtype() == DType::kF32 ? tensor.data<float>()[i] : to_float(tensor.data<bf16>()[i]);
  return values;
}
inline std::vector<double> to_doubles(const Tensor& tensor) {
  const std::vector<float> values = to_floats(tensor);
  return {values.begin(), values.end()};
}

template <typename T>
std::vector<T> to_vector(const Tensor& tensor) {
  return {tensor.data<T>(), tensor.data<T>() + tensor.numel()};
}

/// Whether type, shape and every bit agree.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.numel() == 0 || std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0);
}

}  // namespace moerl::testing
