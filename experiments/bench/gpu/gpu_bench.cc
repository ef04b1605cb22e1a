// The CUDA kernels at the shapes of DeepSeek-V3, and a small V3 end to end. What cuBLASLt or wgmma
// may compute is measured with both, without cuBLASLt, and by mma.sync alone (the label says who
// has its bits), training also with what cuBLASLt finds fastest, whatever its bits: the price of
// exactness. `floor_us` is what the bytes must take at the rate of copying, measured in the same
// run, or the FLOP at the 989 TFLOP/s that NVIDIA's data sheet gives an H200 in bf16.
#include <benchmark/benchmark.h>

#include <chrono>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>

#include "common/clock.h"
#include "common/rng.h"
#include "common/shared_library.h"
#include "kernels/activation/swiglu.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/rope.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/wgmma_proof.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gemm/cublaslt_loader.h"
#include "kernels/gemm/dense_products.h"
#include "kernels/gemm/fp8_linear.h"
#include "kernels/gemm/linear.h"
#include "kernels/gemm/wgmma_products.h"
#include "kernels/loss/token_log_prob.h"
#include "kernels/moe/permute.h"
#include "kernels/moe/topk_gate.h"
#include "kernels/norm/elementwise.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optim/adamw.h"
#include "kernels/sampling/sample_token.h"
#include "policy/optim/adamw.h"
#include "policy/sequence_pass.h"
#include "policy/transformer.h"
#include "rollout/engine.h"

namespace moerl::bench {
namespace {

using namespace kernels;  // NOLINT: the operators are what this file is about

constexpr int64_t kHidden = 7168, kVocab = 129280;

ExecContext& device() {
  static ExecContext ctx(1, detect_isa(), Device::kCuda);
  return ctx;
}

/// Seconds of one call of f, the device being idle before and after.
template <typename F>
double time_of(int calls, const F& f) {
  device_memory().synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) f();
  device_memory().synchronize();
  return seconds_since(start) / calls;
}

/// Who computes bf16 products and attention: as in a run, cuBLASLt or wgmma what they have proved;
/// only kernels of this project; only those of mma.sync; cuBLASLt what it takes, unproven, and
/// wgmma.
enum class Products { kAll, kKernels, kMmaSync, kUnproven };
constexpr Products kEach[] = {Products::kAll, Products::kKernels, Products::kMmaSync};
/// Of what no library computes.
constexpr Products kOfKernels[] = {Products::kAll, Products::kMmaSync};

void use(Products products) {
  static std::optional<Products> in_use;
  if (products == in_use) return;
  in_use = products;
  enable_wgmma(products != Products::kMmaSync);
  if (products == Products::kKernels || products == Products::kMmaSync)
    return dense_products().use(nullptr);
  dense_products().use([] { return open_cublaslt(program_directory()); },
                       products == Products::kAll ? Accept::kProven : Accept::kFirst);
}

/// Of a benchmark that each computes.
std::string name_of(const std::string& name, Products products) {
  constexpr const char* kSuffixes[] = {"", ", own kernels", ", mma.sync", ", cuBLASLt unproven"};
  return name + kSuffixes[static_cast<int>(products)];
}

/// Values in [-0.5, 0.5): one block of randomness, repeated, since the time of a kernel does not
/// depend on more.
Tensor filled(Shape shape, DType dtype) {
  constexpr int64_t kBlock = 1 << 20;
  const int64_t count = shape.numel();
  std::vector<float> block(static_cast<size_t>(std::min(kBlock, count)));
  Rng rng(1, static_cast<uint64_t>(count));
  for (float& value : block) value = static_cast<float>(rng.next_u32()) * 0x1p-32f - 0.5f;
  const Tensor wide = device().empty(std::move(shape), DType::kF32), flat = wide.view({count});
  int64_t done = std::min(kBlock, count);
  Tensor first = flat.rows(0, done);
  first.copy_from_host(block.data());
  for (int64_t more = 0; done < count; done += more) {
    more = std::min(done, count - done);
    flat.rows(done, done + more).copy_from(flat.rows(0, more));
  }
  if (dtype == DType::kF32) return wide;
  Tensor narrow = device().empty(wide.shape(), dtype);
  cast(device(), wide, narrow);
  return narrow;
}

std::vector<int32_t> random_tokens(int64_t count, uint64_t stream) {
  Rng rng(7, stream);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(rng.below(static_cast<uint32_t>(kVocab))));
  return tokens;
}

/// Bytes a second of copying 1 GiB within the device, read and written.
double copy_rate() {
  static const double rate = [] {
    Tensor from = device().zeros({int64_t{1} << 28}, DType::kF32), to = from.clone();
    return 2.0 * static_cast<double>(from.bytes()) / time_of(5, [&] { to.copy_from(from); });
  }();
  return rate;
}

PackedWeight weight_of(int64_t out, int64_t in, Precision precision = DType::kBF16) {
  PackedWeight packed;
  pack_weight(device(), filled({out, in}, DType::kF32), precision, true, packed);
  return packed;
}

constexpr double kDataSheetFlops = 989e12;

/// Times f and compares with the larger of the two floors.
template <typename F>
void measure(benchmark::State& state, double flop, double bytes, const F& f) {
  f();
  double seconds = 0;
  for (auto _ : state) {
    const double once = time_of(1, f);
    state.SetIterationTime(once);
    seconds += once;
  }
  seconds /= static_cast<double>(state.iterations());
  const double floor = std::max(flop / kDataSheetFlops, bytes / copy_rate());
  state.counters["floor_us"] = floor * 1e6;
  state.counters["share"] = floor / seconds;
  if (flop > 0) state.counters["tflops"] = flop / seconds * 1e-12;
  if (bytes > 0) state.counters["gbs"] = bytes / seconds * 1e-9;
}

/// @param products  who is to compute it.
void add(const std::string& name, const std::function<void(benchmark::State&)>& body,
         Products products = Products::kAll) {
  benchmark::RegisterBenchmark(name_of(name, products).c_str(),
                               [=](benchmark::State& state) {
                                 use(products);
                                 body(state);
                               })
      ->UseManualTime()
      ->MinTime(0.1)
      ->Unit(benchmark::kMicrosecond);
}

/// Of a product in bf16: what cuBLASLt and wgmma have proved.
void label(benchmark::State& state, bool transposed, int64_t columns, int64_t depth) {
  state.SetLabel(
      dense_products().verdict({transposed, DType::kBF16, /*accumulate=*/false, columns, depth}) +
      "; " + wgmma_products().verdict());
}

void add_linear(int64_t rows, int64_t out, int64_t in) {
  const std::string shape =
      std::to_string(rows) + "x" + std::to_string(out) + "x" + std::to_string(in);
  const double flop = 2.0 * static_cast<double>(rows) * static_cast<double>(out * in);
  const double bytes = 2.0 * static_cast<double>(rows * in + out * in + rows * out);
  const auto forward = [=](benchmark::State& state) {
    const PackedWeight weight = weight_of(out, in);
    const Tensor x = filled({rows, in}, DType::kBF16);
    Tensor y = device().empty({rows, out}, DType::kBF16);
    measure(state, flop, bytes, [&] { linear_forward(device(), x, weight, y); });
    label(state, false, out, in);
  };
  const auto dgrad = [=](benchmark::State& state) {
    const PackedWeight weight = weight_of(out, in);
    const Tensor dy = filled({rows, out}, DType::kBF16);
    Tensor dx = device().empty({rows, in}, DType::kBF16);
    measure(state, flop, bytes, [&] { linear_dgrad(device(), dy, weight, dx); });
    label(state, true, in, out);
  };
  const auto wgrad = [=](benchmark::State& state) {
    const Tensor dy = filled({rows, out}, DType::kBF16), x = filled({rows, in}, DType::kBF16);
    Tensor dweight = device().zeros({out, in}, DType::kF32);
    measure(state, flop, bytes + 6.0 * static_cast<double>(out * in),
            [&] { linear_wgrad(device(), dy, x, dweight); });
    state.SetLabel(wgmma_products().verdict());
  };
  for (const Products products : kEach) {
    if (products != Products::kAll && rows < WgmmaProducts::kLeastRows) continue;
    add("linear " + shape, forward, products);
  }
  if (rows < 1024) return;
  for (const Products products : kEach) add("linear dgrad " + shape, dgrad, products);
  for (const Products products : kOfKernels) add("linear wgrad " + shape, wgrad, products);
}

/// In FP8, with the quantising of x. Its floor has half the time of bf16's for a product.
void add_fp8_linear(int64_t rows, int64_t out, int64_t in) {
  const std::string shape =
      std::to_string(rows) + "x" + std::to_string(out) + "x" + std::to_string(in);
  const double flop = static_cast<double>(rows) * static_cast<double>(out * in);
  const double bytes = static_cast<double>(4 * rows * in + out * in + 2 * rows * out);
  add("linear fp8 " + shape, [=](benchmark::State& state) {
    const PackedWeight weight = weight_of(out, in, Precision::fp8());
    const Tensor x = filled({rows, in}, DType::kBF16);
    Tensor y = device().empty({rows, out}, DType::kBF16);
    measure(state, flop, bytes, [&] { linear_forward(device(), x, weight, y); });
  });
  if (rows < 1024) return;
  add("linear fp8 dgrad " + shape, [=](benchmark::State& state) {
    const PackedWeight weight = weight_of(out, in, Precision::fp8());
    const Tensor dy = filled({rows, out}, DType::kBF16);
    Tensor dx = device().empty({rows, in}, DType::kBF16);
    measure(state, flop, bytes, [&] { linear_dgrad(device(), dy, weight, dx); });
  });
}

/// The experts of a layer, all with as many rows.
struct Experts {
  Experts(int64_t count, int64_t rows, int64_t out, int64_t in) {
    std::vector<const PackedWeight*> pointers;
    weights.reserve(static_cast<size_t>(count));
    for (int64_t e = 0; e < count; ++e) {
      weights.push_back(weight_of(out, in));
      pointers.push_back(&weights.back());
      offsets.push_back(e * rows);
    }
    offsets.push_back(count * rows);
    list = WeightList(pointers);
  }
  std::vector<PackedWeight> weights;
  WeightList list;
  std::vector<int64_t> offsets;
};

void add_grouped(int64_t experts, int64_t rows, int64_t out, int64_t in) {
  const std::string shape = std::to_string(experts) + "x" + std::to_string(rows) + "x" +
                            std::to_string(out) + "x" + std::to_string(in);
  const auto all = static_cast<double>(experts);
  const double flop = 2.0 * all * static_cast<double>(rows) * static_cast<double>(out * in);
  const double bytes = 2.0 * all * static_cast<double>(rows * in + out * in + rows * out);
  const auto forward = [=](benchmark::State& state) {
    const Experts e(experts, rows, out, in);
    const GroupOffsets groups(e.offsets);
    const Tensor x = filled({experts * rows, in}, DType::kBF16);
    Tensor y = device().empty({experts * rows, out}, DType::kBF16);
    measure(state, flop, bytes, [&] { grouped_linear_forward(device(), x, groups, e.list, y); });
    state.SetLabel(wgmma_products().verdict());
  };
  const auto dgrad = [=](benchmark::State& state) {
    const Experts e(experts, rows, out, in);
    const GroupOffsets groups(e.offsets);
    const Tensor dy = filled({experts * rows, out}, DType::kBF16);
    Tensor dx = device().empty({experts * rows, in}, DType::kBF16);
    measure(state, flop, bytes, [&] { grouped_linear_dgrad(device(), dy, groups, e.list, dx); });
    state.SetLabel(wgmma_products().verdict());
  };
  const auto wgrad = [=](benchmark::State& state) {
    std::vector<int64_t> offsets;
    for (int64_t e = 0; e <= experts; ++e) offsets.push_back(e * rows);
    const GroupOffsets groups(offsets);
    const Tensor dy = filled({experts * rows, out}, DType::kBF16);
    const Tensor x = filled({experts * rows, in}, DType::kBF16);
    std::vector<Tensor> dweights;
    std::vector<Tensor*> pointers;
    dweights.reserve(static_cast<size_t>(experts));
    for (int64_t e = 0; e < experts; ++e) {
      dweights.push_back(device().zeros({out, in}, DType::kF32));
      pointers.push_back(&dweights.back());
    }
    measure(state, flop, bytes + 6.0 * all * static_cast<double>(out * in),
            [&] { grouped_linear_wgrad(device(), dy, x, groups, pointers); });
    state.SetLabel(wgmma_products().verdict());
  };
  if (rows < WgmmaProducts::kLeastRows) return add("grouped " + shape, forward);
  for (const Products products : kOfKernels) {
    add("grouped " + shape, forward, products);
    add("grouped dgrad " + shape, dgrad, products);
    add("grouped wgrad " + shape, wgrad, products);
  }
}

/// Sequences of one length in a paged cache.
struct AttentionCase {
  int64_t sequences, length, heads, kv_heads, k_dim, v_dim;
  bool values_in_keys;
  std::string name() const {
    return std::to_string(sequences) + "x" + std::to_string(length) + " " + std::to_string(heads) +
           "/" + std::to_string(kv_heads) + " heads " + std::to_string(k_dim) + "/" +
           std::to_string(v_dim);
  }
};
struct AttentionSetup {
  explicit AttentionSetup(const AttentionCase& c, bool decode)
      : cache(make_paged_kv(c.sequences * blocks(c), c.kv_heads, c.k_dim, c.v_dim, DType::kBF16,
                            c.values_in_keys ? KvValues::kInKeys : KvValues::kStored,
                            Device::kCuda)) {
    cache.keys.fill_zero();
    if (cache.values.defined()) cache.values.fill_zero();
    const int64_t rows = decode ? 1 : c.length;
    for (int64_t s = 0; s < c.sequences; ++s) {
      std::vector<int32_t>& table = tables.emplace_back();
      for (int64_t b = 0; b < blocks(c); ++b)
        table.push_back(static_cast<int32_t>(s * blocks(c) + b));
    }
    for (int64_t s = 0; s < c.sequences; ++s)
      segments.push_back({s * rows, rows, c.length - rows, tables[static_cast<size_t>(s)]});
    q = filled({c.sequences * rows, c.heads, c.k_dim}, DType::kBF16);
    o = device().empty({c.sequences * rows, c.heads, c.v_dim}, DType::kBF16);
    lse = device().empty({c.sequences * rows, c.heads}, DType::kF32);
  }
  static int64_t blocks(const AttentionCase& c) { return (c.length + kKvBlock - 1) / kKvBlock; }
  PagedKv cache;
  std::vector<std::vector<int32_t>> tables;
  std::vector<AttentionSegment> segments;
  Tensor q, o, lse;
};

void add_decode(const AttentionCase& c) {
  add("attention decode " + c.name(), [=](benchmark::State& state) {
    AttentionSetup s(c, true);
    const SegmentList segments(s.segments);
    const double read = static_cast<double>(c.sequences * c.length * c.kv_heads) *
                        static_cast<double>(c.k_dim + (c.values_in_keys ? 0 : c.v_dim)) * 2;
    const double flop = 2.0 * static_cast<double>(c.sequences * c.length * c.heads) *
                        static_cast<double>(c.k_dim + c.v_dim);
    measure(state, flop, read,
            [&] { attention_forward(device(), s.q, s.cache, segments, 0.1f, s.o, nullptr); });
  });
}

void add_train(const AttentionCase& c) {
  const double pairs = static_cast<double>(c.sequences * c.heads) *
                       static_cast<double>(c.length * (c.length + 1) / 2);
  const auto forward = [=](benchmark::State& state) {
    AttentionSetup s(c, false);
    const SegmentList segments(s.segments);
    measure(state, 2 * pairs * static_cast<double>(c.k_dim + c.v_dim), 0,
            [&] { attention_forward(device(), s.q, s.cache, segments, 0.1f, s.o, &s.lse); });
  };
  for (const Products products : kOfKernels)
    add("attention forward " + c.name(), forward, products);
  add("attention backward " + c.name(), [=](benchmark::State& state) {
    AttentionSetup s(c, false);
    const SegmentList segments(s.segments);
    const int64_t rows = c.sequences * c.length;
    const Tensor k = filled({rows, c.kv_heads, c.k_dim}, DType::kBF16);
    const Tensor v = filled({rows, c.kv_heads, c.v_dim}, DType::kBF16);
    const Tensor dout = filled(s.o.shape(), DType::kBF16);
    Tensor dq = s.q.clone(), dk = k.clone(), dv = v.clone();
    s.o.fill_zero(), s.lse.fill_zero();
    measure(state, 2 * pairs * static_cast<double>(3 * c.k_dim + 2 * c.v_dim), 0, [&] {
      attention_backward(device(), dout, s.q, k, v, s.o, s.lse, segments, 0.1f, dq, dk, dv);
    });
  });
}

void add_norms() {
  for (const int64_t rows : {128, 16384}) {
    const std::string shape = std::to_string(rows) + "x7168";
    const auto elements = static_cast<double>(rows * kHidden);
    add("rms_norm " + shape, [=](benchmark::State& state) {
      Tensor x = filled({rows, kHidden}, DType::kBF16), y = x.clone();
      const Tensor weight = filled({kHidden}, DType::kF32);
      measure(state, 0, 4 * elements,
              [&] { rms_norm_forward(device(), x, weight, 1e-6f, y, nullptr); });
    });
    add("add_rms_norm " + shape, [=](benchmark::State& state) {
      Tensor residual = filled({rows, kHidden}, DType::kBF16), y = residual.clone();
      const Tensor delta = residual.clone(), weight = filled({kHidden}, DType::kF32);
      measure(state, 0, 8 * elements,
              [&] { add_rms_norm_forward(device(), residual, delta, weight, 1e-6f, y, nullptr); });
    });
  }
  add("rms_norm backward 16384x7168", [](benchmark::State& state) {
    const Tensor x = filled({16384, kHidden}, DType::kBF16), dy = x.clone();
    const Tensor weight = filled({kHidden}, DType::kF32);
    Tensor y = x.clone(), rstd = device().empty({16384}, DType::kF32), dx = x.clone();
    Tensor dweight = device().zeros({kHidden}, DType::kF32);
    rms_norm_forward(device(), x, weight, 1e-6f, y, &rstd);
    measure(state, 0, 6.0 * 16384 * kHidden,
            [&] { rms_norm_backward(device(), dy, x, weight, rstd, dx, dweight); });
  });
  add("quantize fp8 16384x7168", [](benchmark::State& state) {
    const Tensor x = filled({16384, kHidden}, DType::kBF16);
    measure(state, 0, (3.0 + 4.0 / 128) * 16384 * kHidden,
            [&] { quantize_fp8_activation(device(), x); });
  });
}

void add_activations() {
  add("swiglu 65536x2048", [](benchmark::State& state) {
    const Tensor gate_up = filled({65536, 4096}, DType::kBF16);
    Tensor hidden = device().empty({65536, 2048}, DType::kBF16);
    measure(state, 0, 65536.0 * 2048 * 6, [&] { swiglu_forward(device(), gate_up, hidden); });
  });
  add("swiglu backward 65536x2048", [](benchmark::State& state) {
    const Tensor gate_up = filled({65536, 4096}, DType::kBF16);
    const Tensor dhidden = filled({65536, 2048}, DType::kBF16);
    Tensor dgate_up = gate_up.clone();
    measure(state, 0, 65536.0 * 2048 * 10,
            [&] { swiglu_backward(device(), dhidden, gate_up, dgate_up); });
  });
  for (const bool backward : {false, true})
    add(backward ? "rope backward 8192x128x64" : "rope 8192x128x64", [=](benchmark::State& state) {
      const Tensor table = rope_table({.dim = 64}, 8192).to(Device::kCuda);
      std::vector<int32_t> positions(8192);
      std::iota(positions.begin(), positions.end(), 0);
      const List<int32_t> list(positions);
      Tensor x = filled({8192, 128, 192}, DType::kBF16);
      measure(state, 0, 8192.0 * 128 * 64 * 4, [&] {
        (backward ? rope_backward : rope_forward)(device(), table, list, RopePairing::kInterleaved,
                                                  128, x);
      });
    });
  for (const bool backward : {false, true})
    add(backward ? "embedding backward 16384" : "embedding 16384", [=](benchmark::State& state) {
      const std::vector<int32_t> ids = random_tokens(16384, 1);
      const List<int32_t> list(ids);
      Tensor table = device().zeros({kVocab, kHidden}, DType::kF32);
      Tensor x = filled({16384, kHidden}, DType::kBF16);
      measure(state, 0, 16384.0 * kHidden * (backward ? 10 : 6), [&] {
        backward ? embedding_backward(device(), x, list, table)
                 : embedding_forward(device(), table, list, x);
      });
    });
}

/// 8192 tokens, of 256 experts eight each.
void add_routing() {
  constexpr int64_t kTokens = 8192, kExperts = 256, kChosen = 8;
  const GateConfig config{.n_routed_experts = kExperts,
                          .num_experts_per_tok = kChosen,
                          .n_group = 8,
                          .topk_group = 4,
                          .routed_scaling_factor = 2.5f};
  for (const bool backward : {false, true})
    add(backward ? "topk_gate backward 8192x256 top 8" : "topk_gate 8192x256 top 8",
        [=](benchmark::State& state) {
          const Tensor logits = filled({kTokens, kExperts}, DType::kF32);
          Tensor scores = logits.clone(), weights = device().empty({kTokens, kChosen}, DType::kF32);
          Tensor idx = device().empty({kTokens, kChosen}, DType::kI32), dlogits = logits.clone();
          const Tensor dweights = filled({kTokens, kChosen}, DType::kF32);
          topk_gate_forward(device(), logits, nullptr, config, scores, idx, weights);
          measure(state, 0, kTokens * (kExperts * 8.0 + 64), [&] {
            if (backward)
              topk_gate_backward(device(), scores, idx, config, dweights, nullptr, dlogits);
            else
              topk_gate_forward(device(), logits, nullptr, config, scores, idx, weights);
          });
        });
  for (const bool backward : {false, true})
    add(backward ? "expand + reduce backward 8192x7168 top 8"
                 : "sort + expand + reduce 8192x7168 top 8",
        [=](benchmark::State& state) {
          std::vector<int32_t> experts;
          for (int32_t t = 0; t < kTokens; ++t)
            for (int32_t k = 0; k < kChosen; ++k) experts.push_back((t * 37 + k * 31) % kExperts);
          const Tensor idx = Tensor::from<int32_t>({kTokens, kChosen}, experts).to(Device::kCuda);
          const Tensor x = filled({kTokens, kHidden}, DType::kBF16);
          const Tensor weights = filled({kTokens, kChosen}, DType::kF32);
          Tensor rows = device().zeros({kChosen * kTokens, kHidden}, DType::kBF16), y = x.clone();
          Tensor drows = rows.clone(), dweights = weights.clone();
          ExpertRows sorted = sort_by_expert(device(), idx, kExperts);
          const double once = 2.0 * kTokens * kHidden;
          measure(state, 0, once * (backward ? 1 + 8 + 8 + 8 + 1 : 1 + 8 + 8 + 1), [&] {
            if (backward) {
              reduce_backward(device(), x, rows, weights, sorted, drows, dweights);
              expand_backward(device(), drows, sorted, kChosen, y);
            } else {
              sorted = sort_by_expert(device(), idx, kExperts);
              expand_forward(device(), x, sorted, kChosen, rows);
              reduce_forward(device(), rows, weights, sorted, nullptr, y);
            }
          });
        });
}

void add_head_and_optimizer() {
  add("linear + log_prob + entropy 2048", [](benchmark::State& state) {
    const PackedWeight head = weight_of(kVocab, kHidden);
    const Tensor x = filled({2048, kHidden}, DType::kBF16);
    const std::vector<int32_t> targets(2048, 7);
    std::vector<float> log_probs(2048), entropy(2048), lse(2048);
    measure(state, 2.0 * 2048 * kVocab * kHidden, 0, [&] {
      token_log_prob_forward(device(), x, head, kVocab, 1, targets, log_probs, entropy, lse);
    });
  });
  add("linear + log_prob backward 2048", [](benchmark::State& state) {
    const PackedWeight head = weight_of(kVocab, kHidden);
    const Tensor x = filled({2048, kHidden}, DType::kBF16);
    const std::vector<int32_t> targets(2048, 7);
    std::vector<float> log_probs(2048), entropy(2048), lse(2048);
    token_log_prob_forward(device(), x, head, kVocab, 1, targets, log_probs, entropy, lse);
    const std::vector<float> dlog_probs(2048, -1e-4f);
    Tensor dx = x.clone(), dhead = device().zeros({kVocab, kHidden}, DType::kF32);
    measure(state, 3 * 2.0 * 2048 * kVocab * kHidden, 0, [&] {
      token_log_prob_backward(device(), x, head, kVocab, 1, targets, lse, entropy, dlog_probs, {},
                              dx, dhead);
    });
  });
  add("sample_token 128x129280", [](benchmark::State& state) {
    const Tensor logits = filled({128, kVocab}, DType::kF32);
    const std::vector<SampleParams> params(128, SampleParams{.uniform = 0.5f});
    std::vector<int32_t> tokens(128);
    std::vector<float> log_probs(128);
    measure(state, 0, 128.0 * kVocab * 4,
            [&] { sample_token(device(), logits, kVocab, params, tokens, log_probs); });
  });
  add("gradient norm 268M", [](benchmark::State& state) {
    const std::vector<Tensor> grads = {device().zeros({int64_t{1} << 28}, DType::kF32)};
    measure(state, 0, 4.0 * (1 << 28), [&] { sum_of_squares(device(), grads); });
  });
  add("adamw 268M", [](benchmark::State& state) {
    const Shape shape = {int64_t{1} << 28};
    const Tensor grad = device().zeros(shape, DType::kF32);
    AdamWRun run{grad, grad.clone(), grad.clone(), grad.clone()};
    const AdamWStep step{.lr = 1e-4f};
    measure(state, 0, 28.0 * (1 << 28), [&] { adamw(device(), step, {&run, 1}); });
  });
}

/// 1.4 B parameters, 0.4 B active: the model of torch_ops.py.
ModelConfig small_v3() {
  ModelConfig c;
  c.vocab_size = kVocab;
  c.hidden_size = 2048;
  c.intermediate_size = 8192;
  c.moe_intermediate_size = 1024;
  c.num_hidden_layers = 6;
  c.num_attention_heads = 16;
  c.q_lora_rank = 768;
  c.kv_lora_rank = 512;
  c.qk_nope_head_dim = 128;
  c.qk_rope_head_dim = 64;
  c.v_head_dim = 128;
  c.n_routed_experts = 32;
  c.num_experts_per_tok = 4;
  c.n_group = c.topk_group = 1;
  c.max_position_embeddings = 2048;
  return c;
}

Transformer& small_model(Precision precision) {
  static std::map<bool, std::unique_ptr<Transformer>> models;  // by is_fp8
  std::unique_ptr<Transformer>& model = models[precision.is_fp8];
  if (model == nullptr) {
    model = std::make_unique<Transformer>(small_v3(), precision, Masters::kKept, Device::kCuda);
    model->init_weights(1);
    model->enable_gradients();
    model->pack(device());
  }
  return *model;
}

/// `batch` sequences of 128 prompt and 64 new tokens.
struct GenerateCase {
  int64_t batch;
  Precision precision;
  bool enforce_eager;
};
void generate(benchmark::State& state, const GenerateCase& c) {
  use(Products::kAll);
  const int64_t batch = c.batch;
  Engine engine(small_model(c.precision),
                {.num_kv_blocks = batch * 8,
                 .max_num_seqs = batch,
                 .max_batched_tokens = 8192,
                 .enforce_eager = c.enforce_eager},
                device());
  for (auto _ : state) {
    GenerateRequest request;
    for (int64_t i = 0; i < batch; ++i)
      request.prompts.push_back(
          {static_cast<uint64_t>(i), random_tokens(128, static_cast<uint64_t>(i))});
    request.sampling.max_tokens = 64;
    bool done = false;
    engine.submit(request, {.on_completion = [](Completion) {},
                            .on_done = [&](std::exception_ptr) { done = true; }});
    const auto start = std::chrono::steady_clock::now();
    while (!done) engine.step();
    const double seconds = seconds_since(start);
    state.SetIterationTime(seconds);
    state.counters["tokens_per_s"] = static_cast<double>(batch * 64) / seconds;
  }
}

/// Forward, backward and AdamW of 8 sequences of 1024 tokens.
void train_step(benchmark::State& state, Products products, Precision precision) {
  use(products);
  std::vector<TrainSequence> sequences;
  for (uint64_t i = 0; i < 8; ++i)
    sequences.push_back({random_tokens(1, 100 + i), random_tokens(1023, 200 + i)});
  std::vector<const TrainSequence*> batch;
  for (const TrainSequence& s : sequences) batch.push_back(&s);
  Transformer& model = small_model(precision);
  KvCache cache(model.config(), model.dtype(), SequencePass::num_blocks_needed(batch),
                Device::kCuda);
  AdamW optimizer(model.parameters(), {});
  const auto step = [&] {
    SequencePass pass(device(), model, batch, cache, {}, true);
    const std::vector<float> dlog_probs(pass.log_probs().size(), -1e-4f);
    pass.backward(device(), model, dlog_probs, {});
    optimizer.step(device(), 0.0);
    model.pack(device());
  };
  step();  // with the proofs
  for (auto _ : state) {
    const double seconds = time_of(1, step);
    state.SetIterationTime(seconds);
    state.counters["tokens_per_s"] = 8 * 1024 / seconds;
  }
}

/// The whole first: a run that is cut short loses its end.
void add_all() {
  const auto add_generate = [](const std::string& name, const GenerateCase& c) {
    benchmark::RegisterBenchmark((name + std::to_string(c.batch)).c_str(), generate, c)
        ->UseManualTime()
        ->Iterations(2)
        ->Unit(benchmark::kMillisecond);
  };
  for (const int64_t batch : {1, 64, 256}) {
    add_generate("generate, batch ", {batch, DType::kBF16, false});
    if (batch < 256) add_generate("generate eagerly, batch ", {batch, DType::kBF16, true});
    if (batch > 1) add_generate("generate fp8, batch ", {batch, Precision::fp8(), false});
  }
  const auto add_train_step = [](const std::string& name, Products products, Precision precision) {
    benchmark::RegisterBenchmark(name.c_str(), train_step, products, precision)
        ->UseManualTime()
        ->Iterations(3)
        ->Unit(benchmark::kMillisecond);
  };
  for (const Products products :
       {Products::kAll, Products::kKernels, Products::kMmaSync, Products::kUnproven})
    add_train_step(name_of("train step 8x1024", products), products, DType::kBF16);
  add_train_step("train step fp8 8x1024", Products::kAll, Precision::fp8());
  for (const int64_t rows : {1, 128, 8192})
    for (const auto& [out, in] :
         {std::pair<int64_t, int64_t>{2112, kHidden}, {kHidden, 16384}, {4096, kHidden}})
      add_linear(rows, out, in);
  add_linear(8192, 8192, 8192);
  for (const int64_t rows : {1, 128, 8192}) add_fp8_linear(rows, kHidden, 16384);
  for (const int64_t rows : {1, 32, 2048}) {
    add_grouped(32, rows, 4096, kHidden);
    add_grouped(32, rows, kHidden, 2048);
  }
  add_decode({128, 4096, 128, 1, 576, 512, true});
  add_decode({1, 4096, 128, 1, 576, 512, true});
  add_train({2, 4096, 128, 128, 192, 128, false});
  add_norms();
  add_activations();
  add_routing();
  add_head_and_optimizer();
}

}  // namespace
}  // namespace moerl::bench

int main(int argc, char** argv) {
  try {
    moerl::kernels::require_cuda();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "moerl_bench_gpu: error: %s\n", error.what());
    return 1;
  }
  moerl::bench::add_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
