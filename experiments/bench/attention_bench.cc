// Attention on one layer's shapes: GFLOP/s, and the share of what fused multiply-adds on registers
// reach on the same number of threads in the same run.
#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"

namespace moerl {
namespace {

using kernels::AttentionSegment;
using kernels::kKvBlock;

__attribute__((target("avx2,fma"))) double fma_loop_avx2(int64_t rounds) {
  __m256 sum[12];
  for (auto& s : sum) s = _mm256_set1_ps(1.0f);
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (auto& s : sum) s = _mm256_fmadd_ps(s, a, b);
  for (int i = 1; i < 12; ++i) sum[0] = _mm256_add_ps(sum[0], sum[i]);
  benchmark::DoNotOptimize(sum[0]);
  return static_cast<double>(rounds) * 12 * 8 * 2;
}
__attribute__((target("avx512f"))) double fma_loop_avx512(int64_t rounds) {
  __m512 sum[16];
  for (auto& s : sum) s = _mm512_set1_ps(1.0f);
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 16
    for (auto& s : sum) s = _mm512_fmadd_ps(s, a, b);
  for (int i = 1; i < 16; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  benchmark::DoNotOptimize(sum[0]);
  return static_cast<double>(rounds) * 16 * 16 * 2;
}

/// Time on the wall, and that of all threads of the process together.
struct Clock {
  std::chrono::steady_clock::time_point wall = std::chrono::steady_clock::now();
  std::clock_t cpu = std::clock();
  double wall_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count();
  }
  double cpu_s() const { return static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC; }
};
struct Rate {
  double wall = 0, cpu = 0;  // FLOP/s; FLOP per second that a thread ran
};

/// Register-only multiply-adds on all of the context's threads, now.
Rate fma_rate(ExecContext& ctx) {
  const Clock clock;
  const int64_t chunks = 4 * ctx.num_threads();
  std::vector<double> flops(static_cast<size_t>(chunks));
  ctx.pool().parallel_for(chunks, [&](int64_t chunk) {
    flops[static_cast<size_t>(chunk)] =
        ctx.isa() >= Isa::kAvx512 ? fma_loop_avx512(400000) : fma_loop_avx2(400000);
  });
  const double all = std::accumulate(flops.begin(), flops.end(), 0.0);
  return {all / clock.wall_s(), all / clock.cpu_s()};
}

/// A batch of sequences of one length, in a cache of their own.
struct Batch {
  Batch(int64_t sequences, int64_t length, int64_t heads, int64_t kv_heads, int64_t k_dim,
        int64_t v_dim, DType dtype)
      : q(Tensor::zeros({sequences * length, heads, k_dim}, dtype)),
        k(Tensor::zeros({sequences * length, kv_heads, k_dim}, dtype)),
        v(Tensor::zeros({sequences * length, kv_heads, v_dim}, dtype)),
        o(Tensor::zeros({sequences * length, heads, v_dim}, dtype)),
        lse(Tensor::zeros({sequences * length, heads}, DType::kF32)) {
    const int64_t blocks = (length + kKvBlock - 1) / kKvBlock;
    cache = kernels::make_paged_kv(
        sequences * blocks, kv_heads, k_dim, v_dim, dtype,
        kv_heads == 1 ? kernels::KvValues::kInKeys : kernels::KvValues::kStored);
    table.resize(static_cast<size_t>(sequences * blocks));
    std::iota(table.begin(), table.end(), 0);
    for (Tensor* x : {&q, &k, &v}) fill(*x);
    for (int64_t s = 0; s < sequences; ++s)
      segments.push_back({s * length, length, 0,
                          std::span<const int32_t>(table).subspan(static_cast<size_t>(s * blocks),
                                                                  static_cast<size_t>(blocks))});
  }
  /// Keeps the last row of every sequence only: one step of decoding.
  void keep_last_rows() {
    for (size_t s = 0; s < segments.size(); ++s) {
      segments[s].start = segments[s].num_rows - 1;
      segments[s].first_row = static_cast<int64_t>(s);
      segments[s].num_rows = 1;
    }
    const auto n = static_cast<int64_t>(segments.size());
    q = q.rows(0, n);
    o = o.rows(0, n);
    lse = lse.rows(0, n);
  }
  static void fill(Tensor& x) {
    for (int64_t i = 0; i < x.numel(); ++i) {
      const float value = static_cast<float>(i * 2654435761 % 1000) * 0.001f - 0.5f;
      if (x.dtype() == DType::kF32)
        x.data<float>()[i] = value;
      else
        x.data<bf16>()[i] = to_bf16(value);
    }
  }
  /// Multiply-adds for each element of (D_k + D_v), twice for FLOP, over the visible keys.
  double flops_per_width() const {
    double pairs = 0;
    for (const AttentionSegment& s : segments)
      for (int64_t t = 0; t < s.num_rows; ++t) pairs += static_cast<double>(s.start + t + 1);
    return 2 * pairs * static_cast<double>(q.dim(1));
  }

  Tensor q, k, v, o, lse;
  kernels::PagedKv cache;
  std::vector<int32_t> table;
  std::vector<AttentionSegment> segments;
};

template <typename F>
void measure(benchmark::State& state, ExecContext& ctx, double flops, const F& f) {
  f();
  const Rate before = fma_rate(ctx);
  const Clock clock;
  for (auto _ : state) f();
  const double all = flops * static_cast<double>(state.iterations());
  const Rate rate = {all / clock.wall_s(), all / clock.cpu_s()}, after = fma_rate(ctx);
  state.counters["GFLOPs"] = rate.wall * 1e-9;
  state.counters["fma_GFLOPs"] = std::max(before.wall, after.wall) * 1e-9;
  state.counters["share"] = rate.wall / std::max(before.wall, after.wall);
  // The same by CPU time: what remains comparable when other processes use the machine.
  state.counters["cpu_share"] = rate.cpu / std::max(before.cpu, after.cpu);
}

enum class Form { kExpanded, kAbsorbed };
Batch make_batch(Form form, int64_t sequences, int64_t length, DType dtype) {
  return form == Form::kExpanded ? Batch(sequences, length, 8, 8, 96, 64, dtype)
                                 : Batch(sequences, length, 8, 1, 160, 128, dtype);
}
double width(const Batch& b) { return static_cast<double>(b.q.dim(2) + b.o.dim(2)); }

void forward(benchmark::State& state, Form form, DType dtype, bool decode) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  Batch b = decode ? make_batch(form, 64, 256, dtype) : make_batch(form, 1, 512, dtype);
  kernels::kv_append(ctx, b.k, b.v, b.segments, b.cache);
  if (decode) b.keep_last_rows();
  measure(state, ctx, b.flops_per_width() * width(b), [&] {
    kernels::attention_forward(ctx, b.q, b.cache, b.segments, 0.1f, b.o, decode ? nullptr : &b.lse);
  });
}

void backward(benchmark::State& state, Form form, DType dtype) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  Batch b = make_batch(form, 4, 512, dtype);
  kernels::kv_append(ctx, b.k, b.v, b.segments, b.cache);
  kernels::attention_forward(ctx, b.q, b.cache, b.segments, 0.1f, b.o, &b.lse);
  Tensor dq = b.q.clone(), dk = b.k.clone(), dv = b.v.clone();
  const double products =
      b.flops_per_width() * static_cast<double>(3 * b.q.dim(2) + 2 * b.o.dim(2));
  measure(state, ctx, products, [&] {
    kernels::attention_backward(ctx, b.o, b.q, b.k, b.v, b.o, b.lse, b.segments, 0.1f, dq, dk, dv);
  });
}

void append(benchmark::State& state, Form form, DType dtype, bool decode) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  Batch b = decode ? make_batch(form, 64, 256, dtype) : make_batch(form, 1, 512, dtype);
  if (decode) b.keep_last_rows();
  for (auto _ : state) kernels::kv_append(ctx, b.k, b.v, b.segments, b.cache);
}

const int registered = [] {
  for (Form form : {Form::kExpanded, Form::kAbsorbed})
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      const std::string name =
          std::string(form == Form::kExpanded ? "expanded_96_64/" : "absorbed_160_128/") +
          dtype_name(dtype);
      auto add = [&](const std::string& op, auto run) {
        benchmark::RegisterBenchmark(("attention/" + op + "/" + name).c_str(), run)
            ->ArgName("threads")
            ->Arg(1)
            ->Arg(2)
            ->UseRealTime();
      };
      add("prefill_T512", [=](benchmark::State& s) { forward(s, form, dtype, false); });
      add("decode_B64_T256", [=](benchmark::State& s) { forward(s, form, dtype, true); });
      add("backward_4xT512", [=](benchmark::State& s) { backward(s, form, dtype); });
      add("append_T512", [=](benchmark::State& s) { append(s, form, dtype, false); });
      add("append_decode_B64", [=](benchmark::State& s) { append(s, form, dtype, true); });
    }
  return 0;
}();

}  // namespace
}  // namespace moerl
