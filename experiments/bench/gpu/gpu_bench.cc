// The CUDA kernels at the shapes of DeepSeek-V3, and a small V3 end to end. What cuBLASLt or wgmma
// may compute is measured with both, without cuBLASLt, and by mma.sync alone (the label says who
// has its bits), training also with what cuBLASLt finds fastest, whatever its bits: the price of
// exactness. `floor_us` is what the bytes must take at the rate of copying, measured in the same
// run, or the FLOP at the 989 TFLOP/s that NVIDIA's data sheet gives an H200 in bf16.
#include <cstdio>
#include <exception>

#include "experiments/bench/gpu/gpu_measure.h"

int main(int argc, char** argv) {
  try {
    moerl::kernels::require_cuda();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "moerl_bench_gpu: error: %s\n", error.what());
    return 1;
  }
  // The whole first: a run that is cut short loses its end.
  moerl::bench::add_model();
  moerl::bench::add_operators();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
