#include "policy/layers/decoder_block.h"

namespace moerl {
namespace {

std::variant<SwiGluMlp, Moe> make_ffn(const std::string& prefix, const ModelConfig& config,
                                      int64_t layer) {
  if (config.is_moe_layer(layer)) return Moe(prefix, config);
  return SwiGluMlp(prefix, config.hidden_size, config.intermediate_size);
}

}  // namespace

DecoderBlock::DecoderBlock(const std::string& prefix, const ModelConfig& config, int64_t layer)
    : input_norm_(prefix + "input_layernorm.weight", config.hidden_size, config.rms_norm_eps),
      attention_(prefix + "self_attn.", config),
      post_attention_norm_(prefix + "post_attention_layernorm.weight", config.hidden_size,
                           config.rms_norm_eps),
      ffn_(make_ffn(prefix + "mlp.", config, layer)) {}

void DecoderBlock::collect(std::vector<Parameter*>& parameters) {
  input_norm_.collect(parameters);
  attention_.collect(parameters);
  post_attention_norm_.collect(parameters);
  std::visit([&](auto& ffn) { ffn.collect(parameters); }, ffn_);
}

void DecoderBlock::enable_gradients() {
  input_norm_.enable_gradients();
  attention_.enable_gradients();
  post_attention_norm_.enable_gradients();
  std::visit([](auto& ffn) { ffn.enable_gradients(); }, ffn_);
}

void DecoderBlock::pack(ExecContext& ctx, DType dtype, bool with_dgrad) {
  attention_.pack(ctx, dtype, with_dgrad);
  std::visit([&](auto& ffn) { ffn.pack(ctx, dtype, with_dgrad); }, ffn_);
}

void DecoderBlock::forward(ExecContext& ctx, Residual& stream, const RowPlaces& places,
                           kernels::PagedKv& cache, Saved* saved, RoutingStats* stats,
                           Tensor* input) const {
  Tensor h = input_norm_.forward(ctx, stream, saved ? &saved->input_rstd : nullptr);
  if (input) *input = stream.x;
  if (saved) saved->input = stream.x;
  stream.delta = attention_.forward(ctx, h, places, cache, saved ? &saved->attention : nullptr);

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

  dh = attention_.backward(ctx, dx, places, saved.attention);
  input_norm_.backward(ctx, dh, saved.input, saved.input_rstd, dx, Write::kAccumulate);
}

}  // namespace moerl
