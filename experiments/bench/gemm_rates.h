#pragma once
// What the benches of matrix products share.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "experiments/bench/calibration.h"

namespace moerl::bench {

/// Runs the body once an iteration and reports GFLOP/s and the shares of what the core can do at
/// that moment: `of_fma` of its fused multiply-adds (AMX may exceed it), `of_read` of its memory
/// bandwidth on reading the weights. Absolute rates of a shared machine say little; the shares do.
template <typename Body>
void run(benchmark::State& state, double flops, double weight_bytes, const Body& body) {
  const Calibration before = calibrate();
  const double start = processor_seconds();
  for (auto _ : state) {
    body();
    benchmark::ClobberMemory();
  }
  const double seconds = (processor_seconds() - start) / static_cast<double>(state.iterations());
  const Calibration after = calibrate();
  const double gflops = 1e-9 * flops / seconds, gbytes = 1e-9 * weight_bytes / seconds;
  state.counters["GFLOP/s"] = gflops;
  state.counters["of_fma"] = gflops / std::max(before.fma_gflops, after.fma_gflops);
  state.counters["of_read"] = gbytes / std::max(before.read_gbytes, after.read_gbytes);
}

/// Projections of a small model, [out_features, in_features], with the numbers of rows.
inline void with_rows(benchmark::internal::Benchmark* bench, const std::vector<int64_t>& rows) {
  bench->ArgNames({"N", "K", "T"});
  const std::vector<std::vector<int64_t>> shapes = {
      {256, 256}, {512, 512}, {1408, 512}, {1024, 1024}, {4096, 1024}};
  for (const std::vector<int64_t>& shape : shapes)
    for (int64_t t : rows) bench->Args({shape[0], shape[1], t});
}
inline void inference_and_training(benchmark::internal::Benchmark* bench) {
  with_rows(bench, {1, 4, 16, 64, 256, 1024});
}

}  // namespace moerl::bench
