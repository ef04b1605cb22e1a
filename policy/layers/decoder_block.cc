#include "policy/layers/decoder_block.h"

namespace moerl {
namespace {

std::variant<SwiGluMlp, Moe> make_ffn(const std::string& prefix, const ModelConfig& config,
                                      int64_t layer, Device device, const ExpertParallel& experts) {
  if (config.is_moe_layer(layer)) return Moe(prefix, config, device, experts);
  return SwiGluMlp(prefix, config.hidden_size, config.intermediate_size, device);
}

std::variant<Mla, Gqa> make_attention(const std::string& prefix, const ModelConfig& config,
                                      Device device) {
  if (config.attention == AttentionKind::kGrouped) return Gqa(prefix, config, device);
  return Mla(prefix, config, device);
}

// What an attention keeps for backward.
Mla::Saved& kept_by(const Mla&, DecoderBlock::Saved& saved) { return saved.latent_attention; }
Gqa::Saved& kept_by(const Gqa&, DecoderBlock::Saved& saved) { return saved.grouped_attention; }
const Mla::Saved& kept_by(const Mla&, const DecoderBlock::Saved& saved) {
  return saved.latent_attention;
}
const Gqa::Saved& kept_by(const Gqa&, const DecoderBlock::Saved& saved) {
  return saved.grouped_attention;
}

}  // namespace

DecoderBlock::DecoderBlock(const std::string& prefix, const ModelConfig& config, int64_t layer,
                           Device device, const ExpertParallel& experts)
    : input_norm_(prefix + "input_layernorm.weight", config.hidden_size, config.rms_norm_eps,
                  device),
      attention_(make_attention(prefix + "self_attn.", config, device)),
      post_attention_norm_(prefix + "post_attention_layernorm.weight", config.hidden_size,
                           config.rms_norm_eps, device),
      ffn_(make_ffn(prefix + "mlp.", config, layer, device, experts)) {}

void DecoderBlock::collect(std::vector<Parameter*>& parameters) {
  input_norm_.collect(parameters);
  std::visit([&](auto& attention) { attention.collect(parameters); }, attention_);
  post_attention_norm_.collect(parameters);
  std::visit([&](auto& ffn) { ffn.collect(parameters); }, ffn_);
}

void DecoderBlock::enable_gradients() {
  input_norm_.enable_gradients();
  std::visit([](auto& attention) { attention.enable_gradients(); }, attention_);
  post_attention_norm_.enable_gradients();
  std::visit([](auto& ffn) { ffn.enable_gradients(); }, ffn_);
}

void DecoderBlock::pack(ExecContext& ctx, const PackOptions& options) {
  std::visit([&](auto& attention) { attention.pack(ctx, options); }, attention_);
  std::visit([&](auto& ffn) { ffn.pack(ctx, options); }, ffn_);
}

void DecoderBlock::forward(ExecContext& ctx, Residual& stream, const RowPlaces& places,
                           kernels::PagedKv& cache, Saved* saved, RoutingStats* stats,
                           Tensor* input) const {
  Tensor h = input_norm_.forward(ctx, stream, saved ? &saved->input_rstd : nullptr);
  if (input) *input = stream.x;
  if (saved) saved->input = stream.x;
  stream.delta = std::visit(
      [&](const auto& attention) {
        return attention.forward(ctx, h, places, cache,
                                 saved ? &kept_by(attention, *saved) : nullptr);
      },
      attention_);

  h = post_attention_norm_.forward(ctx, stream, saved ? &saved->middle_rstd : nullptr);
  if (saved) saved->middle = stream.x;
  if (const auto* moe = std::get_if<Moe>(&ffn_)) {
    stream.delta = moe->forward(ctx, h, places.segments, saved ? &saved->experts : nullptr, stats);
  } else {
    stream.delta = std::get<SwiGluMlp>(ffn_).forward(ctx, h, saved ? &saved->dense : nullptr);
  }
}

void DecoderBlock::backward(ExecContext& ctx, Tensor& dx, const RowPlaces& places,
                            double balance_alpha, const Saved& saved) {
  Tensor dh;
  if (auto* moe = std::get_if<Moe>(&ffn_)) {
    dh = moe->backward(ctx, dx, places.segments, balance_alpha, saved.experts);
  } else {
    dh = std::get<SwiGluMlp>(ffn_).backward(ctx, dx, saved.dense);
  }
  post_attention_norm_.backward(ctx, dh, saved.middle, saved.middle_rstd, dx, Write::kAccumulate);

  dh = std::visit(
      [&](auto& attention) {
        return attention.backward(ctx, dx, places, kept_by(attention, saved));
      },
      attention_);
  input_norm_.backward(ctx, dh, saved.input, saved.input_rstd, dx, Write::kAccumulate);
}

}  // namespace moerl
