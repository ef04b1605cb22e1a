// The CUDA kernels at the shapes of DeepSeek-V3, and a small V3 end to end; what cuBLASLt may
// compute twice, with it (the label says which of its algorithms has our bits) and without.
// `floor_us` is what the bytes or the FLOP must take at rates measured in the same run: copying,
// and this project's own bf16 product of 8192^3 (what PyTorch reaches stands in torch_ops.py's
// table beside it).
#include <benchmark/benchmark.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/rng.h"
#include "common/shared_library.h"
#include "kernels/activation/swiglu.h"
#include "kernels/attention/attention.h"
#include "kernels/cuda/backend.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gemm/cublaslt_loader.h"
#include "kernels/gemm/dense_products.h"
#include "kernels/gemm/linear.h"
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

/// Who computes the products that may be given to a library.
enum class Products { kCublasLt, kKernels };
constexpr Products kBoth[] = {Products::kCublasLt, Products::kKernels};

void use(Products products) {
  static Products in_use = Products::kKernels;
  if (products == in_use) return;
  in_use = products;
  if (products == Products::kKernels) return dense_products().use(nullptr);
  dense_products().use([] { return open_cublaslt(program_directory()); });
}

/// Of a benchmark that both compute.
std::string name_of(const std::string& name, Products products) {
  return products == Products::kCublasLt ? name : name + ", own kernels";
}

/// Values in [-0.5, 0.5).
Tensor filled(Shape shape, DType dtype) {
  Tensor host = Tensor::empty(std::move(shape), DType::kF32);
  Rng rng(1, static_cast<uint64_t>(host.numel()));
  // One block of randomness, repeated: the time of a kernel does not depend on more.
  constexpr int64_t kBlock = 1 << 20;
  for (int64_t i = 0; i < host.numel(); ++i)
    host.data<float>()[i] = i < kBlock ? static_cast<float>(rng.next_u32()) * 0x1p-32f - 0.5f
                                       : host.data<float>()[i - kBlock];
  const Tensor wide = host.to(Device::kCuda);
  if (dtype == DType::kF32) return wide;
  Tensor narrow = device().empty(wide.shape(), dtype);
  cast(device(), wide, narrow);
  return narrow;
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

/// FLOP a second of the project's bf16 product of 8192^3.
double product_rate() {
  static const double rate = [] {
    constexpr int64_t kSize = 8192;
    const PackedWeight weight = weight_of(kSize, kSize);
    const Tensor x = filled({kSize, kSize}, DType::kBF16);
    Tensor y = device().empty(x.shape(), DType::kBF16);
    const double flop = 2.0 * kSize * kSize * kSize;
    return flop / time_of(3, [&] { linear_forward(device(), x, weight, y); });
  }();
  return rate;
}

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
  const double floor = std::max(flop / product_rate(), bytes / copy_rate());
  state.counters["floor_us"] = floor * 1e6;
  state.counters["share"] = floor / seconds;
  if (flop > 0) state.counters["tflops"] = flop / seconds * 1e-12;
  if (bytes > 0) state.counters["gbs"] = bytes / seconds * 1e-9;
}

using Body = void (*)(benchmark::State&);
void add(const std::string& name, const std::function<void(benchmark::State&)>& body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->MinTime(0.1)
      ->Unit(benchmark::kMicrosecond);
}

/// Of a product in bf16.
void label(benchmark::State& state, bool transposed, int64_t columns, int64_t depth) {
  state.SetLabel(
      dense_products().verdict({transposed, DType::kBF16, /*accumulate=*/false, columns, depth}));
}

void add_linear(int64_t rows, int64_t out, int64_t in) {
  const std::string shape =
      std::to_string(rows) + "x" + std::to_string(out) + "x" + std::to_string(in);
  const double flop = 2.0 * static_cast<double>(rows) * static_cast<double>(out * in);
  const double bytes = 2.0 * static_cast<double>(rows * in + out * in + rows * out);
  for (const Products products : kBoth) {
    if (products == Products::kKernels && rows < DenseProducts::kLeastRows) continue;
    add(name_of("linear " + shape, products), [=](benchmark::State& state) {
      use(products);
      const PackedWeight weight = weight_of(out, in);
      const Tensor x = filled({rows, in}, DType::kBF16);
      Tensor y = device().empty({rows, out}, DType::kBF16);
      measure(state, flop, bytes, [&] { linear_forward(device(), x, weight, y); });
      label(state, false, out, in);
    });
  }
  if (rows < 1024) return;
  for (const Products products : kBoth)
    add(name_of("linear dgrad " + shape, products), [=](benchmark::State& state) {
      use(products);
      const PackedWeight weight = weight_of(out, in);
      const Tensor dy = filled({rows, out}, DType::kBF16);
      Tensor dx = device().empty({rows, in}, DType::kBF16);
      measure(state, flop, bytes, [&] { linear_dgrad(device(), dy, weight, dx); });
      label(state, true, in, out);
    });
  add("linear wgrad " + shape, [=](benchmark::State& state) {
    const Tensor dy = filled({rows, out}, DType::kBF16), x = filled({rows, in}, DType::kBF16);
    Tensor dweight = device().zeros({out, in}, DType::kF32);
    measure(state, flop, bytes + 6.0 * static_cast<double>(out * in),
            [&] { linear_wgrad(device(), dy, x, dweight); });
  });
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

void add_grouped(int64_t experts, int64_t rows, int64_t out, int64_t in) {
  add("grouped " + std::to_string(experts) + "x" + std::to_string(rows) + "x" +
          std::to_string(out) + "x" + std::to_string(in),
      [=](benchmark::State& state) {
        std::vector<PackedWeight> weights;
        for (int64_t e = 0; e < experts; ++e) weights.push_back(weight_of(out, in));
        std::vector<const PackedWeight*> pointers;
        for (const PackedWeight& weight : weights) pointers.push_back(&weight);
        const WeightList list(pointers);
        std::vector<int64_t> offsets;
        for (int64_t e = 0; e <= experts; ++e) offsets.push_back(e * rows);
        const GroupOffsets groups(offsets);
        const Tensor x = filled({experts * rows, in}, DType::kBF16);
        Tensor y = device().empty({experts * rows, out}, DType::kBF16);
        const auto all = static_cast<double>(experts);
        measure(state, 2.0 * all * static_cast<double>(rows) * static_cast<double>(out * in),
                2.0 * all * static_cast<double>(rows * in + out * in + rows * out),
                [&] { grouped_linear_forward(device(), x, groups, list, y); });
      });
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
  add("attention forward " + c.name(), [=](benchmark::State& state) {
    AttentionSetup s(c, false);
    const SegmentList segments(s.segments);
    measure(state, 2 * pairs * static_cast<double>(c.k_dim + c.v_dim), 0,
            [&] { attention_forward(device(), s.q, s.cache, segments, 0.1f, s.o, &s.lse); });
  });
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

void add_rows() {
  for (const int64_t rows : {128, 16384})
    add("rms_norm " + std::to_string(rows) + "x7168", [=](benchmark::State& state) {
      Tensor x = filled({rows, kHidden}, DType::kBF16), y = x.clone();
      const Tensor weight = filled({kHidden}, DType::kF32);
      measure(state, 0, 4.0 * static_cast<double>(rows * kHidden),
              [&] { rms_norm_forward(device(), x, weight, 1e-6f, y, nullptr); });
    });
  add("swiglu 65536x2048", [](benchmark::State& state) {
    const Tensor gate_up = filled({65536, 4096}, DType::kBF16);
    Tensor hidden = device().empty({65536, 2048}, DType::kBF16);
    measure(state, 0, 65536.0 * 2048 * 6, [&] { swiglu_forward(device(), gate_up, hidden); });
  });
  add("topk_gate 8192x256 top 8", [](benchmark::State& state) {
    const GateConfig config{.n_routed_experts = 256,
                            .num_experts_per_tok = 8,
                            .n_group = 8,
                            .topk_group = 4,
                            .routed_scaling_factor = 2.5f};
    const Tensor logits = filled({8192, 256}, DType::kF32);
    Tensor scores = logits.clone(), weights = device().empty({8192, 8}, DType::kF32);
    Tensor idx = device().empty({8192, 8}, DType::kI32);
    measure(state, 0, 8192.0 * (256 * 8 + 64),
            [&] { topk_gate_forward(device(), logits, nullptr, config, scores, idx, weights); });
  });
  add("sort + expand + reduce 8192x7168 top 8", [](benchmark::State& state) {
    std::vector<int32_t> experts;
    for (int32_t t = 0; t < 8192; ++t)
      for (int32_t k = 0; k < 8; ++k) experts.push_back((t * 37 + k * 31) % 256);
    const Tensor idx = Tensor::from<int32_t>({8192, 8}, experts).to(Device::kCuda);
    const Tensor x = filled({8192, kHidden}, DType::kBF16);
    const Tensor weights = filled({8192, 8}, DType::kF32);
    Tensor rows = device().empty({8 * 8192, kHidden}, DType::kBF16), y = x.clone();
    measure(state, 0, 2.0 * 8192 * kHidden * (1 + 8 + 8 + 1), [&] {
      const ExpertRows sorted = sort_by_expert(device(), idx, 256);
      expand_forward(device(), x, sorted, 8, rows);
      reduce_forward(device(), rows, weights, sorted, nullptr, y);
    });
  });
  add("linear + log_prob + entropy 2048", [](benchmark::State& state) {
    const PackedWeight head = weight_of(kVocab, kHidden);
    const Tensor x = filled({2048, kHidden}, DType::kBF16);
    const std::vector<int32_t> targets(2048, 7);
    std::vector<float> log_probs(2048), entropy(2048), lse(2048);
    measure(state, 2.0 * 2048 * kVocab * kHidden, 0, [&] {
      token_log_prob_forward(device(), x, head, kVocab, 1, targets, log_probs, entropy, lse);
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

std::vector<int32_t> random_tokens(int64_t count, uint64_t stream) {
  Rng rng(7, stream);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(rng.below(static_cast<uint32_t>(kVocab))));
  return tokens;
}

/// `batch` sequences of 128 prompt and 64 new tokens.
struct GenerateCase {
  int64_t batch;
  Precision precision;
  bool enforce_eager;
};
void generate(benchmark::State& state, const GenerateCase& c) {
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

void add_all() {
  copy_rate(), product_rate();  // by the kernels, before any library
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
  add_rows();
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
  for (const Products products : kBoth)
    add_train_step(name_of("train step 8x1024", products), products, DType::kBF16);
  add_train_step("train step fp8 8x1024", Products::kKernels, Precision::fp8());
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
