// A small DeepSeek-V3 end to end: sampling and training.
#include <map>
#include <memory>

#include "experiments/bench/gpu/gpu_measure.h"
#include "policy/optim/adamw.h"
#include "policy/sequence_pass.h"
#include "policy/transformer.h"
#include "rollout/engine.h"

namespace moerl::bench {
namespace {

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

}  // namespace

void add_model() {
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
}

}  // namespace moerl::bench
