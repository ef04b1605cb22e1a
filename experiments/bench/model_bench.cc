// The whole model on the shape of the design's CPU peer comparison: 108 M parameters, 27 M active.
// Decoding through the rollout engine, prompt processing, and a training step; each as tokens a
// second and as a share of what limits it (fused multiply-adds or memory reads), measured beside
// it.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <thread>

#include "common/clock.h"
#include "common/rng.h"
#include "experiments/bench/calibration.h"
#include "policy/optim/adamw.h"
#include "policy/sequence_pass.h"
#include "policy/transformer.h"
#include "rollout/engine.h"

namespace moerl::bench {
namespace {

constexpr int64_t kPromptTokens = 128, kNewTokens = 128, kTrainLength = 512, kTrainSequences = 4;

ModelConfig peer_model() {
  ModelConfig c;
  c.vocab_size = 8192;
  c.hidden_size = 512;
  c.intermediate_size = 1408;
  c.moe_intermediate_size = 256;
  c.num_hidden_layers = 8;
  c.num_attention_heads = 8;
  c.q_lora_rank = 256;
  c.kv_lora_rank = 128;
  c.qk_nope_head_dim = 64;
  c.qk_rope_head_dim = 32;
  c.v_head_dim = 64;
  c.n_routed_experts = 32;
  c.num_experts_per_tok = 4;
  c.routed_scaling_factor = 2.5;
  c.max_position_embeddings = 1024;
  return c;
}

enum Form : int64_t { kExpanded, kAbsorbed };

int all_threads() { return static_cast<int>(std::thread::hardware_concurrency()); }

/// One context and one model of each form for the whole program: 108 M parameters take a while to
/// make.
struct Peer {
  ExecContext ctx{all_threads()};
  Transformer model;
  explicit Peer(const ModelConfig& config) : model(config, DType::kBF16) {
    model.init_weights(1);
    model.enable_gradients();
    model.pack(ctx);
  }
  static Peer& instance(int64_t form) {
    static std::unique_ptr<Peer> peers[2];
    std::unique_ptr<Peer>& peer = peers[form];
    if (!peer) {
      ModelConfig config = peer_model();
      config.mla_form = form == kAbsorbed ? "absorbed" : "expanded";
      peer = std::make_unique<Peer>(config);
    }
    return *peer;
  }
};

std::vector<int32_t> random_tokens(int64_t count, uint64_t stream) {
  Rng rng(7, stream);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(rng.below(8192)));
  return tokens;
}

void report(benchmark::State& state, const ExecContext& ctx, double tokens, double seconds,
            double flop_per_token, double bytes_per_token) {
  const Calibration now = calibrate();
  const double threads = ctx.num_threads();
  const double rate = tokens / seconds;
  state.counters["tokens_per_s"] = rate;
  state.counters["fma_share"] = rate * flop_per_token / (now.fma_gflops * 1e9 * threads);
  state.counters["read_share"] = rate * bytes_per_token / (now.read_gbytes * 1e9 * threads);
}

double active_flop() { return 2.0 * static_cast<double>(peer_model().num_active_parameters()); }

/// Bytes of bf16 weights that a step of `rows` tokens reads: what is always active, and as many
/// experts as `rows` independent, uniform choices of the top k hit on average.
double weight_bytes(int64_t rows) {
  const ModelConfig c = peer_model();
  const auto experts = static_cast<double>(c.n_routed_experts);
  const auto top_k = static_cast<double>(c.num_experts_per_tok);
  const double hit = experts * (1 - std::pow(1 - top_k / experts, static_cast<double>(rows)));
  const auto one_expert = static_cast<double>((c.num_hidden_layers - c.first_k_dense_replace) * 3 *
                                              c.hidden_size * c.moe_intermediate_size);
  return 2.0 * (static_cast<double>(c.num_active_parameters()) + (hit - top_k) * one_expert);
}

/// `batch` sequences of 128 prompt and 128 new tokens; the time of the new tokens alone.
void decode(benchmark::State& state) {
  Peer& peer = Peer::instance(state.range(0));
  const int64_t batch = state.range(1);
  ExecContext ctx(static_cast<int>(state.range(2)));
  Engine engine(peer.model,
                {.num_kv_blocks = batch * 10, .max_num_seqs = batch, .max_batched_tokens = 2048},
                ctx);
  for (auto _ : state) {
    GenerateRequest request;
    for (int64_t i = 0; i < batch; ++i)
      request.prompts.push_back(
          {static_cast<uint64_t>(i), random_tokens(kPromptTokens, static_cast<uint64_t>(i))});
    request.sampling.max_tokens = kNewTokens;
    bool done = false;
    engine.submit(request, {.on_completion = [](Completion) {},
                            .on_done = [&](std::exception_ptr) { done = true; }});
    while (engine.status().queued_sequences > 0) engine.step();  // prompts
    const auto start = std::chrono::steady_clock::now();
    while (!done) engine.step();
    const double seconds = seconds_since(start);
    state.SetIterationTime(seconds);
    report(state, ctx, static_cast<double>(batch * kNewTokens), seconds, active_flop(),
           weight_bytes(batch) / static_cast<double>(batch));
  }
}
BENCHMARK(decode)
    ->ArgNames({"absorbed", "batch", "threads"})
    ->ArgsProduct({{kExpanded, kAbsorbed}, {1, 8, 64, 256}, {all_threads()}})
    ->Args({kAbsorbed, 64, 1})
    ->UseManualTime()
    ->Iterations(2)
    ->Unit(benchmark::kMillisecond);

std::vector<TrainSequence> training_sequences() {
  std::vector<TrainSequence> sequences;
  for (int64_t i = 0; i < kTrainSequences; ++i)
    sequences.push_back({random_tokens(1, static_cast<uint64_t>(100 + i)),
                         random_tokens(kTrainLength - 1, static_cast<uint64_t>(200 + i))});
  return sequences;
}

std::vector<const TrainSequence*> pointers(const std::vector<TrainSequence>& sequences) {
  std::vector<const TrainSequence*> out;
  for (const TrainSequence& s : sequences) out.push_back(&s);
  return out;
}

/// Log-probabilities of 4 sequences of 512 tokens: what prompt processing and scoring cost.
void prefill(benchmark::State& state) {
  Peer& peer = Peer::instance(state.range(0));
  const std::vector<TrainSequence> sequences = training_sequences();
  KvCache cache(peer.model.config(), peer.model.dtype(),
                SequencePass::num_blocks_needed(pointers(sequences)));
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    const SequencePass pass(peer.ctx, peer.model, pointers(sequences), cache, {}, false);
    benchmark::DoNotOptimize(pass.log_probs().data());
    const double seconds = seconds_since(start);
    state.SetIterationTime(seconds);
    report(state, peer.ctx, kTrainSequences * kTrainLength, seconds, active_flop(), 0);
  }
}
BENCHMARK(prefill)
    ->ArgName("absorbed")
    ->Arg(kExpanded)
    ->Arg(kAbsorbed)
    ->UseManualTime()
    ->Iterations(4)
    ->Unit(benchmark::kMillisecond);

/// Forward, backward, AdamW and repacking for 4 sequences of 512 tokens; 6 FLOP a parameter and
/// token.
void train_step(benchmark::State& state) {
  Peer& peer = Peer::instance(state.range(0));
  const std::vector<TrainSequence> sequences = training_sequences();
  KvCache cache(peer.model.config(), peer.model.dtype(),
                SequencePass::num_blocks_needed(pointers(sequences)));
  AdamW optimizer(peer.model.parameters(), {});
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    SequencePass pass(peer.ctx, peer.model, pointers(sequences), cache, {}, true);
    const std::vector<float> dlog_probs(pass.log_probs().size(),
                                        -1.0f / static_cast<float>(pass.log_probs().size()));
    pass.backward(peer.ctx, peer.model, dlog_probs, {});
    optimizer.step(peer.ctx, 0.0);
    peer.model.pack(peer.ctx);
    const double seconds = seconds_since(start);
    state.SetIterationTime(seconds);
    report(state, peer.ctx, kTrainSequences * kTrainLength, seconds, 3 * active_flop(), 0);
  }
}
BENCHMARK(train_step)
    ->ArgName("absorbed")
    ->Arg(kExpanded)
    ->Arg(kAbsorbed)
    ->UseManualTime()
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moerl::bench
