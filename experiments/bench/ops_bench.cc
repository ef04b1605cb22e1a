// The row-wise operators: bytes that they must move, per second, as a share of what plain reads of
// memory reach on the same number of threads in the same run.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/rng.h"
#include "kernels/activation/swiglu.h"
#include "kernels/embedding/embedding.h"
#include "kernels/loss/policy_loss.h"
#include "kernels/loss/token_log_prob.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optim/adamw.h"
#include "kernels/sampling/sample_token.h"

namespace moerl {
namespace {

using namespace kernels;  // NOLINT: the operators are what this file is about

/// Bytes per second of reading 256 MiB, the best of three passes.
double read_rate(ExecContext& ctx) {
  constexpr int64_t kWords = int64_t{32} << 20, kChunk = int64_t{1} << 18;
  static const std::vector<uint64_t> words(kWords, 1);
  std::vector<uint64_t> sums(kWords / kChunk);
  double best = 0;
  for (int pass = 0; pass < 3; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    ctx.pool().parallel_for(kWords / kChunk, [&](int64_t chunk) {
      const uint64_t* p = words.data() + chunk * kChunk;
      uint64_t sum[8] = {};
      for (int64_t i = 0; i < kChunk; i += 8)
        for (int j = 0; j < 8; ++j) sum[j] += p[i + j];
      for (uint64_t s : sum) sums[static_cast<size_t>(chunk)] += s;
    });
    benchmark::DoNotOptimize(sums.data());
    best = std::max(best, static_cast<double>(kWords) * 8 / seconds_since(start));
  }
  return best;
}

/// Times f. `bytes` is what one call has to read and write at least; `elements` what it works on.
template <typename F>
void measure(benchmark::State& state, ExecContext& ctx, int64_t bytes, int64_t elements,
             const F& f) {
  f();
  const double before = read_rate(ctx);
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) f();
  const double rate =
      static_cast<double>(bytes) * static_cast<double>(state.iterations()) / seconds_since(start);
  const double limit = std::max(before, read_rate(ctx));
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["read_GB/s"] = limit * 1e-9;
  state.counters["share"] = rate / limit;
  state.counters["Gelem/s"] = benchmark::Counter(static_cast<double>(elements) * 1e-9,
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

Tensor filled(ExecContext& ctx, Shape shape, DType dtype) {
  Tensor wide = ctx.empty(std::move(shape), DType::kF32);
  Rng rng(1);
  for (int64_t i = 0; i < wide.numel(); ++i)
    wide.data<float>()[i] = static_cast<float>(rng.next_u32()) * 0x1p-31f - 1.0f;
  if (dtype == DType::kF32) return wide;
  Tensor narrow = ctx.empty(wide.shape(), dtype);
  cast(ctx, wide, narrow);
  return narrow;
}

constexpr int64_t kRows = 8192, kDim = 1024;

void bench_rms_norm(benchmark::State& state, DType dtype) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor x = filled(ctx, {kRows, kDim}, dtype), weight = filled(ctx, {kDim}, DType::kF32);
  Tensor y = ctx.empty(x.shape(), dtype), rstd = ctx.empty({kRows}, DType::kF32);
  measure(state, ctx, 2 * x.bytes(), x.numel(),
          [&] { rms_norm_forward(ctx, x, weight, 1e-6f, y, &rstd); });
}

void bench_add_rms_norm(benchmark::State& state, DType dtype) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  Tensor x = filled(ctx, {kRows, kDim}, dtype);
  const Tensor delta = ctx.zeros(x.shape(), dtype), weight = filled(ctx, {kDim}, DType::kF32);
  Tensor y = ctx.empty(x.shape(), dtype), rstd = ctx.empty({kRows}, DType::kF32);
  measure(state, ctx, 4 * x.bytes(), x.numel(),
          [&] { add_rms_norm_forward(ctx, x, delta, weight, 1e-6f, y, &rstd); });
}

void bench_rms_norm_backward(benchmark::State& state, DType dtype) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor x = filled(ctx, {kRows, kDim}, dtype), dy = filled(ctx, {kRows, kDim}, dtype);
  const Tensor weight = filled(ctx, {kDim}, DType::kF32), rstd = filled(ctx, {kRows}, DType::kF32);
  Tensor dx = ctx.empty(x.shape(), dtype), dweight = ctx.zeros({kDim}, DType::kF32);
  measure(state, ctx, 3 * x.bytes(), x.numel(),
          [&] { rms_norm_backward(ctx, dy, x, weight, rstd, dx, dweight); });
}

void bench_swiglu(benchmark::State& state, DType dtype) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor gate_up = filled(ctx, {kRows, 2 * kDim}, dtype);
  Tensor hidden = ctx.empty({kRows, kDim}, dtype);
  measure(state, ctx, gate_up.bytes() + hidden.bytes(), hidden.numel(),
          [&] { swiglu_forward(ctx, gate_up, hidden); });
}

void bench_swiglu_backward(benchmark::State& state, DType dtype) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor gate_up = filled(ctx, {kRows, 2 * kDim}, dtype);
  const Tensor dhidden = filled(ctx, {kRows, kDim}, dtype);
  Tensor dgate_up = ctx.empty(gate_up.shape(), dtype);
  measure(state, ctx, 2 * gate_up.bytes() + dhidden.bytes(), dhidden.numel(),
          [&] { swiglu_backward(ctx, dhidden, gate_up, dgate_up); });
}

void bench_embedding_backward(benchmark::State& state, DType dtype) {
  constexpr int64_t kVocab = 32000;
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor dy = filled(ctx, {kRows, kDim}, dtype);
  Tensor dtable = ctx.zeros({kVocab, kDim}, DType::kF32);
  std::vector<int32_t> ids;
  Rng rng(2);
  for (int64_t t = 0; t < kRows; ++t) ids.push_back(static_cast<int32_t>(rng.below(kVocab)));
  measure(state, ctx, dy.bytes() + 8 * dy.numel(), dy.numel(),
          [&] { embedding_backward(ctx, dy, ids, dtable); });
}

void bench_adamw(benchmark::State& state) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor grad = filled(ctx, {int64_t{16} << 20}, DType::kF32);
  AdamWRun run{grad, grad.clone(), ctx.zeros(grad.shape(), DType::kF32),
               ctx.zeros(grad.shape(), DType::kF32)};
  measure(state, ctx, 7 * grad.bytes(), grad.numel(), [&] {
    adamw(ctx, {.lr = 1e-3f, .weight_decay = 0.1f}, {&run, 1});
  });
}

void bench_sum_of_squares(benchmark::State& state) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor grad = filled(ctx, {int64_t{16} << 20}, DType::kF32);
  measure(state, ctx, grad.bytes(), grad.numel(), [&] {
    benchmark::DoNotOptimize(sum_of_squares(ctx, {&grad, 1}));
  });
}

void bench_policy_loss(benchmark::State& state) {
  ExecContext ctx(1);
  constexpr size_t kTokens = 65536;
  const std::vector<float> l(kTokens, -1.0f), old(kTokens, -1.1f), reference(kTokens, -0.9f),
      advantages(kTokens, 0.5f), weights(kTokens, 1.0f);
  std::vector<float> dlog_probs(kTokens);
  measure(state, ctx, 6 * kTokens * 4, kTokens, [&] {
    benchmark::DoNotOptimize(policy_loss({.kl = KlType::kK3, .kl_coef = 0.1f},
                                         {l, old, reference, {}, advantages, weights}, dlog_probs,
                                         {}));
  });
}

void bench_log_prob(benchmark::State& state, int64_t rows, int64_t vocab_size) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor logits = filled(ctx, {rows, vocab_size}, DType::kF32);
  const std::vector<int32_t> targets(static_cast<size_t>(rows), 7);
  std::vector<float> log_probs(targets.size()), entropy(log_probs), lse(log_probs);
  measure(state, ctx, logits.bytes(), logits.numel(), [&] {
    log_prob_from_logits(ctx, logits, vocab_size, 1, targets, log_probs, entropy, lse);
  });
}

void bench_sample(benchmark::State& state, int64_t rows, int64_t vocab_size, SampleParams setting) {
  ExecContext ctx(static_cast<int>(state.range(0)));
  const Tensor logits = filled(ctx, {rows, vocab_size}, DType::kF32);
  std::vector<SampleParams> params(static_cast<size_t>(rows), setting);
  for (size_t t = 0; t < params.size(); ++t) params[t].uniform = sampling_uniform(1, t, 0, 0);
  std::vector<int32_t> tokens(params.size());
  std::vector<float> log_probs(params.size());
  measure(state, ctx, logits.bytes(), logits.numel(),
          [&] { sample_token(ctx, logits, vocab_size, params, tokens, log_probs); });
}

/// With the two or four GEMMs of the head; bytes count the head only.
void bench_token_log_prob(benchmark::State& state, DType dtype, int64_t vocab_size, bool backward) {
  constexpr int64_t kTokens = 1024, kWidth = 512;
  ExecContext ctx(static_cast<int>(state.range(0)));
  PackedWeight head;
  pack_weight(ctx, filled(ctx, {vocab_size, kWidth}, DType::kF32), dtype, true, head);
  const Tensor hidden = filled(ctx, {kTokens, kWidth}, dtype);
  const std::vector<int32_t> targets(kTokens, 7);
  std::vector<float> log_probs(kTokens, 0.1f), entropy(log_probs), lse(log_probs);
  Tensor dhidden = ctx.empty(hidden.shape(), dtype);
  Tensor dhead = ctx.zeros({vocab_size, kWidth}, DType::kF32);
  token_log_prob_forward(ctx, hidden, head, vocab_size, 1, targets, log_probs, entropy, lse);
  measure(state, ctx, vocab_size * kWidth * dtype_size(dtype), kTokens * vocab_size, [&] {
    if (backward)
      token_log_prob_backward(ctx, hidden, head, vocab_size, 1, targets, lse, entropy, log_probs,
                              {}, dhidden, dhead);
    else
      token_log_prob_forward(ctx, hidden, head, vocab_size, 1, targets, log_probs, entropy, lse);
  });
}

template <typename F>
void add(const std::string& name, const F& f) {
  benchmark::RegisterBenchmark(name.c_str(), f)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();
}

const int registered = [] {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const std::string type = std::string("/") + dtype_name(dtype);
    const auto typed = [&](const std::string& name, void (*run)(benchmark::State&, DType)) {
      add(name + type, [=](benchmark::State& state) { run(state, dtype); });
    };
    typed("rms_norm/forward", bench_rms_norm);
    typed("rms_norm/add_forward", bench_add_rms_norm);
    typed("rms_norm/backward", bench_rms_norm_backward);
    typed("swiglu/forward", bench_swiglu);
    typed("swiglu/backward", bench_swiglu_backward);
    typed("embedding/backward", bench_embedding_backward);
    for (int64_t vocab_size : {512, 32000})
      for (bool backward : {false, true})
        add("token_log_prob/" + std::string(backward ? "backward" : "forward") + "/V" +
                std::to_string(vocab_size) + type,
            [=](benchmark::State& s) { bench_token_log_prob(s, dtype, vocab_size, backward); });
  }
  add("adamw", bench_adamw);
  add("sum_of_squares", bench_sum_of_squares);
  benchmark::RegisterBenchmark("policy_loss", bench_policy_loss)->UseRealTime();
  for (auto [rows, vocab] : {std::pair<int64_t, int64_t>{64, 129280}, {64, 32000}, {256, 512}}) {
    const std::string shape = "/" + std::to_string(rows) + "xV" + std::to_string(vocab);
    const auto sampled = [&](const std::string& name, const SampleParams& params) {
      add("sample_token/" + name + shape,
          [=, r = rows, v = vocab](benchmark::State& s) { bench_sample(s, r, v, params); });
    };
    add("log_prob_from_logits" + shape,
        [r = rows, v = vocab](benchmark::State& s) { bench_log_prob(s, r, v); });
    sampled("plain", {});
    sampled("greedy", {.temperature = 0});
    sampled("top_p", {.top_p = 0.95f});
    sampled("top_k", {.top_k = 50});
  }
  return 0;
}();

}  // namespace
}  // namespace moerl
