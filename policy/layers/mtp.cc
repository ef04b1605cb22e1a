#include "policy/layers/mtp.h"

#include "kernels/layout/runs.h"

namespace moerl {

MtpModule::MtpModule(const std::string& prefix, const ModelConfig& config, int64_t layer,
                     Device device, const ExpertParallel& experts)
    : embedded_norm_(prefix + "enorm.weight", config.hidden_size, config.rms_norm_eps, device),
      hidden_norm_(prefix + "hnorm.weight", config.hidden_size, config.rms_norm_eps, device),
      eh_proj_(prefix + "eh_proj", config.hidden_size, 2 * config.hidden_size, device),
      block_(prefix, config, layer, device, experts),
      head_norm_(prefix + "shared_head.norm.weight", config.hidden_size, config.rms_norm_eps,
                 device) {}

void MtpModule::collect(std::vector<Parameter*>& parameters) {
  embedded_norm_.collect(parameters);
  hidden_norm_.collect(parameters);
  eh_proj_.collect(parameters);
  block_.collect(parameters);
  head_norm_.collect(parameters);
}

void MtpModule::enable_gradients() {
  embedded_norm_.enable_gradients();
  hidden_norm_.enable_gradients();
  eh_proj_.enable_gradients();
  block_.enable_gradients();
  head_norm_.enable_gradients();
}

void MtpModule::pack(ExecContext& ctx, const PackOptions& options) {
  eh_proj_.pack(ctx, options.without_fp8());
  block_.pack(ctx, options);
}

Tensor MtpModule::forward(ExecContext& ctx, const Tensor& embedded, const Tensor& hidden,
                          const RowPlaces& places, kernels::PagedKv& cache, Saved* saved,
                          bool keep_block, RoutingStats* stats) const {
  const int64_t t = hidden.dim(0), d = hidden.dim(1);
  const Tensor e = embedded_norm_.forward(ctx, embedded, saved ? &saved->embedded_rstd : nullptr);
  const Tensor h = hidden_norm_.forward(ctx, hidden, saved ? &saved->hidden_rstd : nullptr);
  Tensor both = ctx.empty({t, 2 * d}, hidden.dtype());
  kernels::copy_runs(ctx, {t, 1, d}, e, {0, d, 0}, both, {0, 2 * d, 0});
  kernels::copy_runs(ctx, {t, 1, d}, h, {0, d, 0}, both, {d, 2 * d, 0});
  Residual stream{eh_proj_.forward(ctx, both), {}};
  if (saved) saved->block_input = stream.x;
  block_.forward(ctx, stream, places, cache, saved && keep_block ? &saved->block : nullptr, stats);
  Tensor y = head_norm_.forward(ctx, stream, saved ? &saved->last_rstd : nullptr);
  if (saved) {
    saved->embedded = embedded;
    saved->hidden = hidden;
    saved->both = std::move(both);
    saved->last = stream.x;
  }
  return y;
}

Tensor MtpModule::backward(ExecContext& ctx, const Tensor& dy, const RowPlaces& places,
                           double balance_alpha, const Saved& saved, Tensor& dhidden) {
  const int64_t t = dy.dim(0), d = dy.dim(1);
  Tensor dx = ctx.empty(dy.shape(), dy.dtype());
  head_norm_.backward(ctx, dy, saved.last, saved.last_rstd, dx, Write::kOverwrite);
  block_.backward(ctx, dx, places, balance_alpha, saved.block);
  const Tensor dboth = eh_proj_.backward(ctx, dx, saved.both);
  Tensor de = ctx.empty(dy.shape(), dy.dtype()), dh = ctx.empty(dy.shape(), dy.dtype());
  kernels::copy_runs(ctx, {t, 1, d}, dboth, {d, 2 * d, 0}, dh, {0, d, 0});
  kernels::copy_runs(ctx, {t, 1, d}, dboth, {0, 2 * d, 0}, de, {0, d, 0});
  hidden_norm_.backward(ctx, dh, saved.hidden, saved.hidden_rstd, dhidden, Write::kAccumulate);
  Tensor dembedded = ctx.empty(dy.shape(), dy.dtype());
  embedded_norm_.backward(ctx, de, saved.embedded, saved.embedded_rstd, dembedded,
                          Write::kOverwrite);
  return dembedded;
}

}  // namespace moerl
