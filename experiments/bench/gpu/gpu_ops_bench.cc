// The CUDA kernels at the shapes of DeepSeek-V3.
#include <numeric>
#include <optional>

#include "experiments/bench/gpu/gpu_measure.h"
#include "kernels/activation/swiglu.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/rope.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gemm/fp8_linear.h"
#include "kernels/gemm/wgmma_products.h"
#include "kernels/loss/policy_loss_impl.h"
#include "kernels/loss/token_log_prob.h"
#include "kernels/moe/permute.h"
#include "kernels/moe/topk_gate.h"
#include "kernels/norm/elementwise.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optim/adamw.h"
#include "kernels/sampling/sample_token.h"

namespace moerl::bench {

using namespace kernels;  // NOLINT: the operators are what this file is about

namespace {

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
  add("policy_loss 16384", [](benchmark::State& state) {
    constexpr int64_t kTokens = 16384;
    const Tensor log_probs = filled({kTokens}, DType::kF32), old = filled({kTokens}, DType::kF32),
                 advantages = filled({kTokens}, DType::kF32),
                 weights = filled({kTokens}, DType::kF32);
    Tensor dlog_probs = log_probs.clone();
    const int64_t words = sizeof(PolicyLossSums) / sizeof(int32_t);
    Tensor terms = device().empty({kTokens, words}, DType::kI32),
           sums = device().empty({words}, DType::kI32);
    const auto values = [](const Tensor& x) { return x.data<float>(Device::kCuda); };
    const PolicyLossCudaArgs args{.config = {},
                                  .tokens = kTokens,
                                  .log_probs = values(log_probs),
                                  .old_log_probs = values(old),
                                  .advantages = values(advantages),
                                  .weights = values(weights),
                                  .dlog_probs = dlog_probs.data<float>(Device::kCuda),
                                  .terms = static_cast<PolicyLossSums*>(terms.raw(Device::kCuda)),
                                  .sums = static_cast<PolicyLossSums*>(sums.raw(Device::kCuda))};
    measure(state, 0, kTokens * (5 * 4.0 + 2 * sizeof(PolicyLossSums)),
            [&] { cuda_ops<PolicyLossCuda>().run(args); });
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

}  // namespace

void add_operators() {
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

}  // namespace moerl::bench
