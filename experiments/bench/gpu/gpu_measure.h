#pragma once
// What the GPU's benchmarks share.
#include <benchmark/benchmark.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "kernels/cuda/backend.h"
#include "kernels/gemm/linear.h"

namespace moerl::bench {

inline constexpr int64_t kHidden = 7168, kVocab = 129280;  // of DeepSeek-V3

ExecContext& device();

/// Seconds of one call of f, the device being idle before and after.
template <typename F>
double time_of(int calls, const F& f) {
  kernels::device_memory().synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) f();
  kernels::device_memory().synchronize();
  return seconds_since(start) / calls;
}

/// Who computes bf16 products and attention: as in a run, cuBLASLt or wgmma what they have proved;
/// only kernels of this project; only those of mma.sync; cuBLASLt what it takes, unproven, and
/// wgmma.
enum class Products { kAll, kKernels, kMmaSync, kUnproven };
inline constexpr Products kEach[] = {Products::kAll, Products::kKernels, Products::kMmaSync};
/// Of what no library computes.
inline constexpr Products kOfKernels[] = {Products::kAll, Products::kMmaSync};
void use(Products products);
/// Of a benchmark that each computes.
std::string name_of(const std::string& name, Products products);

/// Values in [-0.5, 0.5): one block of randomness, repeated, since the time of a kernel does not
/// depend on more.
Tensor filled(Shape shape, DType dtype);
std::vector<int32_t> random_tokens(int64_t count, uint64_t stream);
kernels::PackedWeight weight_of(int64_t out, int64_t in, Precision precision = DType::kBF16);

/// Times f and compares with the larger of the two floors: the FLOP at the data sheet's rate, the
/// bytes at the rate of copying.
void measure(benchmark::State& state, double flop, double bytes, const std::function<void()>& f);

/// @param products  who is to compute it.
void add(const std::string& name, const std::function<void(benchmark::State&)>& body,
         Products products = Products::kAll);

/// Of a product in bf16: what cuBLASLt and wgmma have proved.
void label(benchmark::State& state, bool transposed, int64_t columns, int64_t depth);

// What there is to measure.
void add_model();
void add_operators();

}  // namespace moerl::bench
