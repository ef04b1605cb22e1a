#pragma once
// Scalars of the device with the meaning of kernels/cpu/simd.h, bit for bit: the same polynomials,
// a multiply-add fused where the source says so (nvcc runs with -fmad=false), denormals flushed.

#include <bit>
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/dtype.h"

namespace moerl::kernels::cuda {

__device__ __forceinline__ float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
__device__ __forceinline__ float sqrt(float x) { return ::sqrtf(x); }
/// a > b ? a : b: the second operand where either is NaN.
__device__ __forceinline__ float max(float a, float b) { return a > b ? a : b; }
__device__ __forceinline__ float min(float a, float b) { return a < b ? a : b; }

__device__ __forceinline__ bool is_finite(float x) { return x - x == 0.0f; }

__device__ __forceinline__ float load(const float* p) { return *p; }
__device__ __forceinline__ float load(const bf16* p) { return to_float(*p); }
__device__ __forceinline__ void store(float* p, float value) { *p = value; }
__device__ __forceinline__ void store(bf16* p, float value) { *p = to_bf16(value); }

/// e^x, as simd.h's.
__device__ __forceinline__ float exp(float x) {
  const float clamped = max(-87.3365402f, min(88.3762589f, x));
  const float magic = 12582912.0f;
  const float n = fma(clamped, 1.44269504f, magic) - magic;
  float r = fma(n, -0.693359375f, clamped);
  r = fma(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = fma(p, r, 1.3981999507e-3f);
  p = fma(p, r, 8.3334519073e-3f);
  p = fma(p, r, 4.1665795894e-2f);
  p = fma(p, r, 1.6666665459e-1f);
  p = fma(p, r, 5.0000001201e-1f);
  p = fma(p, r * r, r + 1.0f);
  const int32_t exponent = n == n ? static_cast<int32_t>(n) : 0;
  const float power = std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
  return x < -87.3365402f ? 0.0f : p * power;
}

/// Natural logarithm of positive normal x, as simd.h's.
__device__ __forceinline__ float log(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  float e = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127);
  float m = std::bit_cast<float>((bits & 0x7FFFFF) | 0x3F800000);
  if (1.41421356f < m) {
    e = e + 1.0f;
    m = m * 0.5f;
  }
  const float f = m - 1.0f, f2 = f * f;
  float p = 7.0376836292e-2f;
  p = fma(p, f, -1.1514610310e-1f);
  p = fma(p, f, 1.1676998740e-1f);
  p = fma(p, f, -1.2420140846e-1f);
  p = fma(p, f, 1.4249322787e-1f);
  p = fma(p, f, -1.6668057665e-1f);
  p = fma(p, f, 2.0000714765e-1f);
  p = fma(p, f, -2.4999993993e-1f);
  p = fma(p, f, 3.3333331174e-1f);
  p = p * f * f2;
  p = fma(e, -2.12194440e-4f, p);
  p = fma(f2, -0.5f, p);
  return fma(e, 0.693359375f, f + p);
}

/// log, which is for numbers: a NaN stays.
__device__ __forceinline__ float log_or_nan(float x) { return x == x ? log(x) : x; }

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + exp(0.0f - x)); }

}  // namespace moerl::kernels::cuda
