#include "experiments/bench/calibration.h"

#include <algorithm>
#include <ctime>
#include <vector>

#include "kernels/isa.h"

namespace moerl::bench {
namespace {

constexpr int kRepeats = 5, kSteps = 100000;
constexpr int kChains = 10;

// Ten chains of 0 + 0 * 0: latency times throughput of the multiply-add units of all known cores.
// In assembly, so that no build of this file needs, or invents, the instructions.
void fma_avx2() {
  long steps = kSteps;
  __asm__ volatile(
      "vzeroall\n"
      "1:\n"
      "vfmadd231ps %%ymm15, %%ymm15, %%ymm0\nvfmadd231ps %%ymm15, %%ymm15, %%ymm1\n"
      "vfmadd231ps %%ymm15, %%ymm15, %%ymm2\nvfmadd231ps %%ymm15, %%ymm15, %%ymm3\n"
      "vfmadd231ps %%ymm15, %%ymm15, %%ymm4\nvfmadd231ps %%ymm15, %%ymm15, %%ymm5\n"
      "vfmadd231ps %%ymm15, %%ymm15, %%ymm6\nvfmadd231ps %%ymm15, %%ymm15, %%ymm7\n"
      "vfmadd231ps %%ymm15, %%ymm15, %%ymm8\nvfmadd231ps %%ymm15, %%ymm15, %%ymm9\n"
      "dec %0\n"
      "jnz 1b\n"
      "vzeroupper\n"
      : "+r"(steps)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc");
}
void fma_avx512() {
  long steps = kSteps;
  __asm__ volatile(
      "vzeroall\n"
      "1:\n"
      "vfmadd231ps %%zmm15, %%zmm15, %%zmm0\nvfmadd231ps %%zmm15, %%zmm15, %%zmm1\n"
      "vfmadd231ps %%zmm15, %%zmm15, %%zmm2\nvfmadd231ps %%zmm15, %%zmm15, %%zmm3\n"
      "vfmadd231ps %%zmm15, %%zmm15, %%zmm4\nvfmadd231ps %%zmm15, %%zmm15, %%zmm5\n"
      "vfmadd231ps %%zmm15, %%zmm15, %%zmm6\nvfmadd231ps %%zmm15, %%zmm15, %%zmm7\n"
      "vfmadd231ps %%zmm15, %%zmm15, %%zmm8\nvfmadd231ps %%zmm15, %%zmm15, %%zmm9\n"
      "dec %0\n"
      "jnz 1b\n"
      "vzeroupper\n"
      : "+r"(steps)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc");
}

void fma_portable() {
  float a = 0.5f;
  for (int step = 0; step < kSteps; ++step) {
    a = __builtin_fmaf(a, 0.5f, 0.5f);
    __asm__ volatile("" : "+x"(a));
  }
}

/// The least time of the work over some repeats.
template <typename F>
double best_seconds(const F& work) {
  double best = 1e9;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const double start = processor_seconds();
    work();
    best = std::min(best, processor_seconds() - start);
  }
  return best;
}

double fma_gflops() {
  const Isa isa = detect_isa();
  const double flops = 2e-9 * kSteps;
  if (isa >= Isa::kAvx512) return flops * kChains * 16 / best_seconds(fma_avx512);
  if (isa == Isa::kAvx2) return flops * kChains * 8 / best_seconds(fma_avx2);
  return flops / best_seconds(fma_portable);
}

double read_gbytes() {
  static const std::vector<long> memory(size_t{128} << 17, 1);  // 128 MiB
  constexpr size_t kSlice = size_t{4} << 17;                    // 4 MiB, a new one each time
  static size_t begin = 0;
  const double seconds = best_seconds([] {
    long sums[8] = {};
    for (size_t i = begin; i < begin + kSlice; i += 8)
      for (size_t lane = 0; lane < 8; ++lane) sums[lane] += memory[i + lane];
    __asm__ volatile("" ::"r"(sums) : "memory");
    begin = (begin + kSlice) % memory.size();
  });
  return 1e-9 * static_cast<double>(kSlice * sizeof(long)) / seconds;
}

}  // namespace

double processor_seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Calibration calibrate() { return {fma_gflops(), read_gbytes()}; }

}  // namespace moerl::bench
