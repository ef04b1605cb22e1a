#include "policy/transformer.h"

#include <algorithm>
#include <thread>

#include "common/rng.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/layout/rows.h"
#include "kernels/norm/elementwise.h"
#include "policy/host_copy.h"
#include "policy/transformer_impl.h"
#include "policy/zero_pages.h"

namespace moerl {
namespace {

const ModelConfig& checked(const ModelConfig& config) {
  std::string text;
  for (const std::string& violation : config.violations()) text += "\n  " + violation;
  if (!text.empty()) throw ConfigError("model configuration:" + text);
  return config;
}

/// hidden[rows[i], :] one below the other; shares the memory if the rows follow each other.
Tensor chosen_rows(ExecContext& ctx, const Tensor& hidden, std::span<const int32_t> rows) {
  const auto n = static_cast<int64_t>(rows.size());
  bool consecutive = n > 0 && rows[0] >= 0 && rows[0] + n <= hidden.dim(0);
  for (size_t i = 1; i < rows.size(); ++i) consecutive = consecutive && rows[i] == rows[i - 1] + 1;
  if (consecutive) return hidden.rows(rows[0], rows[0] + n);
  Tensor out = ctx.empty({n, hidden.dim(1)}, hidden.dtype());
  kernels::gather_rows(ctx, hidden, rows, out);
  return out;
}

}  // namespace

void RoutingCounts::add(const RoutingCounts& other) {
  if (per_layer.size() < other.per_layer.size()) per_layer.resize(other.per_layer.size());
  for (size_t layer = 0; layer < other.per_layer.size(); ++layer) {
    const std::vector<int64_t>& from = other.per_layer[layer];
    std::vector<int64_t>& to = per_layer[layer];
    to.resize(from.size());
    for (size_t e = 0; e < from.size(); ++e) to[e] += from[e];
  }
}

void TransformerSavedDelete::operator()(TransformerSaved* saved) const { delete saved; }

Transformer::Impl::Impl(const ModelConfig& c, Precision working, Masters kept, Device place,
                        const ExpertParallel& ranks)
    : config(checked(c)),
      precision(working),
      dtype(working.dtype),
      masters(kept),
      device(place),
      experts(ranks),
      embed_tokens{"model.embed_tokens.weight",
                   Tensor::without_memory({c.vocab_size, c.hidden_size}, DType::kF32, place),
                   {},
                   false},
      final_norm("model.norm.weight", c.hidden_size, c.rms_norm_eps, place),
      rope_table(kernels::rope_table(c.rope(), c.max_position_embeddings).to(place)) {
  check(dtype == DType::kF32 || dtype == DType::kBF16, "Transformer: dtype is ", dtype_name(dtype),
        ", expected f32 or bf16");
  check(!precision.is_fp8 || dtype == DType::kBF16, "Transformer: fp8 needs bf16 activations");
  auto prefix = [](int64_t layer) { return "model.layers." + std::to_string(layer) + "."; };
  parameters.push_back(&embed_tokens);
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    blocks.emplace_back(prefix(layer), c, layer, place, ranks).collect(parameters);
  if (c.num_nextn_predict_layers > 0)
    mtp.emplace(prefix(c.num_hidden_layers), c, c.num_hidden_layers, place, ranks)
        .collect(parameters);
  final_norm.collect(parameters);
  if (!c.tie_word_embeddings)
    lm_head.emplace("lm_head", c.vocab_size, c.hidden_size, place).collect(parameters);
  if (masters == Masters::kDropped) return;
  for (Parameter* parameter : parameters)
    if (experts.holds(*parameter)) give_memory(*parameter);
}

void Transformer::Impl::give_memory(Parameter& parameter) {
  if (!parameter.value.has_memory())
    parameter.value.attach(zero_pages({parameter.value.memory_bytes() / 4}, device));
}

std::vector<Moe*> Transformer::Impl::moe_layers() {
  std::vector<Moe*> layers;
  for (DecoderBlock& block : blocks)
    if (block.moe()) layers.push_back(block.moe());
  if (mtp && mtp->block().moe()) layers.push_back(mtp->block().moe());
  return layers;
}

Transformer::Transformer(const ModelConfig& config, Precision precision, Masters masters,
                         Device device, const ExpertParallel& experts)
    : impl_(std::make_unique<Impl>(config, precision, masters, device, experts)) {}
Transformer::~Transformer() = default;

const ModelConfig& Transformer::config() const { return impl_->config; }
Precision Transformer::precision() const { return impl_->precision; }
DType Transformer::dtype() const { return impl_->dtype; }
Device Transformer::device() const { return impl_->device; }
const ExpertParallel& Transformer::experts() const { return impl_->experts; }
std::string Transformer::numeric_family() const {
  const std::string device =
      impl_->device == Device::kCpu ? "cpu" : kernels::device_memory().architecture();
  return device + "-" + impl_->precision.name();
}

std::vector<Parameter*> Transformer::parameters() { return impl_->parameters; }
std::vector<const Parameter*> Transformer::parameters() const {
  return {impl_->parameters.begin(), impl_->parameters.end()};
}

bool Transformer::has_masters() const { return impl_->masters == Masters::kKept; }
void Transformer::need_masters(std::string_view what) const {
  check(has_masters(), what, ": the model was made for inference and keeps no fp32 masters");
}

void Transformer::init_weights(uint64_t seed) {
  need_masters("init_weights");
  const double std = impl_->config.initializer_range;
  ThreadPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  // Blocks of rows are streams of their own, so that they can be drawn side by side.
  constexpr int64_t kBlock = 1 << 16;
  for (Parameter* parameter : impl_->parameters) {
    if (!impl_->experts.holds(*parameter)) continue;
    HostCopy value(parameter->value);
    float* values = value.tensor().data<float>();
    const int64_t n = parameter->value.numel();
    if (!parameter->is_matrix()) {
      const bool zero = parameter->is_buffer || parameter->name.ends_with(".bias");
      std::fill(values, values + n, zero ? 0.0f : 1.0f);
    } else {
      const uint64_t key = mix64(seed) ^ hash64(parameter->name);
      pool.parallel_for((n + kBlock - 1) / kBlock, [&](int64_t block) {
        Rng rng(key, static_cast<uint64_t>(block));
        for (int64_t i = block * kBlock; i < std::min(n, (block + 1) * kBlock); ++i)
          values[i] = static_cast<float>(std * rng.normal());
      });
    }
    value.write_back();
  }
}

void Transformer::enable_gradients() {
  need_masters("enable_gradients");
  Impl& m = *impl_;
  m.embed_tokens.grad = Tensor::zeros(m.embed_tokens.value.shape(), DType::kF32, m.device);
  for (DecoderBlock& block : m.blocks) block.enable_gradients();
  if (m.mtp) m.mtp->enable_gradients();
  m.final_norm.enable_gradients();
  if (m.lm_head) m.lm_head->enable_gradients();
  m.has_gradients = true;
}

void Transformer::zero_gradients() {
  for (Parameter* parameter : impl_->parameters) {
    if (parameter->grad.defined()) parameter->grad.fill_zero();
    for (Tensor& grad : parameter->peer_grads) grad.fill_zero();
  }
}

void Transformer::Impl::pack_embedding(ExecContext& ctx, const PackOptions& options) {
  const bool is_tied = !lm_head;
  if (options.source == nullptr) {
    embedding = embed_tokens.value;
    if (is_tied) kernels::pack_weight(ctx, embedding, dtype, options.with_dgrad, tied_head);
    return;
  }
  const Shape& shape = embed_tokens.value.shape();
  const kernels::ReadRows read = [&](int64_t begin, int64_t end, DType type, void* out) {
    options.source->read(embed_tokens, begin * shape[1], end * shape[1], type, out);
  };
  if (!embedding.defined()) embedding = ctx.empty(shape, dtype);
  kernels::fill_rows(ctx, read, embedding);
  if (is_tied) kernels::pack_weight(ctx, shape, read, dtype, tied_head);
  options.source->finished(embed_tokens);
}

void Transformer::Impl::pack(ExecContext& ctx, const PackOptions& options) {
  check(ctx.device() == device, "Transformer: the model lies on ", device_name(device),
        ", the context is for ", device_name(ctx.device()));
  packed = false;
  pack_embedding(ctx, options);
  for (DecoderBlock& block : blocks) block.pack(ctx, options);
  if (mtp) mtp->pack(ctx, options);
  if (lm_head) lm_head->pack(ctx, options.without_fp8());
  packed = true;
  packed_with_dgrad = options.with_dgrad;
}

void Transformer::pack(ExecContext& ctx, bool with_dgrad) {
  need_masters("pack");
  impl_->pack(ctx, {.precision = impl_->precision, .with_dgrad = with_dgrad});
}

void Transformer::load(ExecContext& ctx, WeightSource& source) {
  Impl& m = *impl_;
  m.packed = false;
  constexpr int64_t kChunk = 1 << 18;  // numbers that a thread reads at a time
  for (Parameter* parameter : m.parameters) {
    if (!parameter->value.has_memory() || !m.experts.holds(*parameter)) continue;
    HostCopy value(parameter->value);
    float* out = value.tensor().data<float>();
    kernels::parallel_rows(ctx, parameter->value.numel(), kChunk, [&](int64_t begin, int64_t end) {
      source.read(*parameter, begin, end, DType::kF32, out + begin);
    });
    value.write_back();
    source.finished(*parameter);
  }
  m.pack(ctx, {.precision = m.precision,
               .with_dgrad = m.has_gradients,
               .source = m.masters == Masters::kKept ? nullptr : &source});
}

void Transformer::gather_experts() {
  need_masters("gather_experts");
  for (Parameter* parameter : impl_->parameters) {
    if (parameter->holder == Parameter::kEveryRank) continue;
    const Tensor value = impl_->experts.on_first_rank(*parameter);
    if (!value.defined() || impl_->experts.holds(*parameter)) continue;
    impl_->give_memory(*parameter);
    parameter->value.copy_from(value);
  }
}

Tensor Transformer::logits(ExecContext& ctx, const Tensor& hidden,
                           std::span<const int32_t> rows) const {
  Tensor out =
      ctx.empty({static_cast<int64_t>(rows.size()), impl_->config.vocab_size}, DType::kF32);
  kernels::linear_forward(ctx, chosen_rows(ctx, hidden, rows), head(), out);
  return out;
}

const kernels::PackedWeight& Transformer::head() const {
  return impl_->lm_head ? impl_->lm_head->image() : impl_->tied_head;
}
Tensor& Transformer::head_grad() {
  return impl_->lm_head ? impl_->lm_head->grad() : impl_->embed_tokens.grad;
}

void Transformer::update_router_bias(const RoutingCounts& counts, double rate) {
  std::vector<Moe*> layers = impl_->moe_layers();
  const auto hidden_layers = static_cast<size_t>(impl_->config.num_moe_layers());
  const size_t n = counts.per_layer.size();
  check(n == hidden_layers || n == layers.size(), "update_router_bias: counts of ", n,
        " layers, expected ", hidden_layers, " or, with the MTP module, ", layers.size());
  for (size_t i = 0; i < n; ++i) layers[i]->update_bias(counts.per_layer[i], rate);
}

SequenceBatch pack_sequences(std::span<const std::vector<int32_t>> sequences) {
  SequenceBatch out;
  for (const std::vector<int32_t>& sequence : sequences) {
    const auto n = static_cast<int64_t>(sequence.size());
    check(n > 0, "pack_sequences: sequence ", out.block_tables.size(), " is empty");
    std::vector<int32_t>& table = out.block_tables.emplace_back();
    for (int64_t begin = 0; begin < n; begin += kernels::kKvBlock)
      table.push_back(static_cast<int32_t>(out.num_blocks++));
    for (int64_t i = 0; i < n; ++i) out.batch.positions.push_back(static_cast<int32_t>(i));
    out.batch.segments.push_back({out.batch.num_tokens(), n, 0, {}});
    out.batch.token_ids.insert(out.batch.token_ids.end(), sequence.begin(), sequence.end());
  }
  // The tables stand still from here on; their elements stay put when the batch is moved.
  for (size_t i = 0; i < sequences.size(); ++i)
    out.batch.segments[i].block_table = out.block_tables[i];
  return out;
}

}  // namespace moerl
