#include "kernels/sampling/sample_token.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "common/error.h"
#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/list.h"
#include "kernels/loss/token_log_prob_impl.h"
#include "kernels/sampling/sample_token_impl.h"

namespace moerl::kernels {
namespace {

void check_params(size_t t, const SampleParams& p) {
  const auto require = [&](bool condition, const char* name, auto value, const char* expected) {
    check(condition, "sample_token: params[", t, "].", name, " is ", value, ", expected ",
          expected);
  };
  require(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature,
          ">= 0 and finite");
  require(p.top_k >= 0, "top_k", p.top_k, ">= 0");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "(0, 1]");
  require(p.min_p >= 0 && p.min_p < 1, "min_p", p.min_p, "[0, 1)");
  const float uniform = p.uniform.value();
  require(uniform >= 0 && uniform < 1, "uniform", uniform, "[0, 1)");
}

/// Orders tokens by likelihood, the likeliest largest: by logit, on ties by descending id.
uint64_t likelihood_key(float logit, size_t id) {
  const auto bits = std::bit_cast<uint32_t>(logit + 0.0f);  // -0 and 0 are a tie
  const uint32_t ordered = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | ~static_cast<uint32_t>(id);
}

size_t id_of(uint64_t key) { return ~static_cast<uint32_t>(key); }

/// The key at which the summed weights of the keys, largest first, reach `needed`; 0 if they never
/// do. Each round sums the weights by eleven bits of the keys and goes on in the one bucket where
/// the border lies. Drops keys as it goes.
template <typename Weight>
uint64_t border_key(std::vector<uint64_t>& keys, uint64_t needed, const Weight& weight_of) {
  constexpr int kBits = 11;
  constexpr size_t kSortable = 64;
  uint64_t reached = 0;
  for (int shift = 64 - kBits; keys.size() > kSortable; shift = std::max(0, shift - kBits)) {
    const auto bucket_of = [=](uint64_t key) { return key >> shift & ((1u << kBits) - 1); };
    std::array<uint64_t, 1 << kBits> weights{};
    for (uint64_t key : keys) weights[bucket_of(key)] += weight_of(id_of(key));
    size_t bucket = weights.size();
    do {
      if (bucket == 0) return 0;
      reached += weights[--bucket];
    } while (reached < needed);
    reached -= weights[bucket];
    std::erase_if(keys, [&](uint64_t key) { return bucket_of(key) != bucket; });
  }
  std::sort(keys.begin(), keys.end(), std::greater<>());
  for (uint64_t key : keys) {
    reached += weight_of(id_of(key));
    if (reached >= needed) return key;
  }
  return 0;
}

/// The scratch of one thread, kept between rows: fresh pages would cost more than the work.
struct Scratch {
  std::vector<float> prefix, e;
  std::vector<uint64_t> keys, border_keys;
};

/// Puts 0 into scratch.e for every token that top-k, top-p and min-p drop.
void narrow(const float* logits, const SampleParams& params, Scratch& scratch) {
  std::vector<float>& e = scratch.e;
  std::vector<uint64_t>& keys = scratch.keys;
  keys.resize(e.size());
  for (size_t v = 0; v < e.size(); ++v) keys[v] = likelihood_key(logits[v], v);
  uint64_t border = 0;
  if (params.top_k > 0) {
    scratch.border_keys = keys;
    border = border_key(scratch.border_keys, static_cast<uint64_t>(params.top_k),
                        [](size_t) { return uint64_t{1}; });
  }
  if (params.top_p < 1) {
    const auto fixed_point = [&](size_t v) { return static_cast<uint64_t>(e[v] * 0x1p40f); };
    scratch.border_keys = keys;
    std::erase_if(scratch.border_keys, [&](uint64_t key) { return key < border; });
    uint64_t total = 0;
    for (uint64_t key : scratch.border_keys) total += fixed_point(id_of(key));
    const auto needed = static_cast<uint64_t>(std::ceil(params.top_p * static_cast<double>(total)));
    border = std::max(border, border_key(scratch.border_keys, needed, fixed_point));
  }
  for (size_t v = 0; v < e.size(); ++v)
    e[v] = e[v] < params.min_p || keys[v] < border ? 0.0f : e[v];
}

struct Drawn {
  int64_t token;
  float log_prob;
  bool valid;
};

template <Isa isa>
Drawn draw(const float* logits, int64_t vocab_size, const SampleParams& params, Scratch& scratch) {
  const bool greedy = params.temperature == 0;
  const bool narrowed = params.top_k > 0 || params.top_p < 1 || params.min_p > 0;
  const float inverse_temperature = greedy ? 1.0f : 1.0f / params.temperature;
  scratch.prefix.resize(static_cast<size_t>(vocab_size / TokenLogProbCpu<isa>::kPrefixBlock * 16));
  const LogitsRow row =
      TokenLogProbCpu<isa>::row(logits, vocab_size, inverse_temperature, false,
                                greedy || narrowed ? nullptr : scratch.prefix.data());
  if (!std::isfinite(row.lse)) return {0, row.lse, false};

  int64_t token;
  if (greedy) {
    token = SampleTokenCpu<isa>::find(logits, vocab_size, row.max);
  } else if (!narrowed) {
    token = SampleTokenCpu<isa>::pick(logits, vocab_size, inverse_temperature, row.max,
                                      scratch.prefix.data(), params.uniform.value() * row.sum);
  } else {
    scratch.e.resize(static_cast<size_t>(vocab_size));
    SampleTokenCpu<isa>::exp_row(logits, vocab_size, inverse_temperature, row.max,
                                 scratch.e.data());
    narrow(logits, params, scratch);
    const float sum = SampleTokenCpu<isa>::sum(scratch.e.data(), vocab_size);
    token = SampleTokenCpu<isa>::pick_stored(scratch.e.data(), vocab_size,
                                             params.uniform.value() * sum);
  }
  check_internal(token < vocab_size, "sample_token: no token drawn from ", vocab_size);
  return {token, logits[token] * inverse_temperature - row.lse, true};
}

[[noreturn]] void throw_no_distribution(size_t row, size_t rows, float lse) {
  throw NumericalError(concat("sample_token: row ", row, " of ", rows,
                              " has no distribution: its log-sum-exp is ", lse));
}

void sample_cpu(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                std::span<const SampleParams> params, std::span<int32_t> tokens,
                std::span<float> log_probs) {
  const int64_t rows = logits.dim(0), width = logits.dim(1);
  const float* data = logits.data<float>();
  std::vector<char> valid(static_cast<size_t>(rows));
  dispatch_isa(ctx.isa(), [&]<Isa isa>() {
    parallel_rows(ctx, rows, rows_per_turn(vocab_size), [&](int64_t begin, int64_t end) {
      thread_local Scratch scratch;
      for (auto t = static_cast<size_t>(begin); t < static_cast<size_t>(end); ++t) {
        const Drawn drawn =
            draw<isa>(data + static_cast<int64_t>(t) * width, vocab_size, params[t], scratch);
        tokens[t] = static_cast<int32_t>(drawn.token);
        log_probs[t] = drawn.log_prob;
        valid[t] = drawn.valid;
      }
    });
  });
  for (size_t t = 0; t < valid.size(); ++t)
    if (!valid[t]) throw_no_distribution(t, valid.size(), log_probs[t]);
}

void sample_cuda(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                 std::span<const SampleParams> params, std::span<int32_t> tokens,
                 std::span<float> log_probs) {
  Tensor on_device = ctx.empty({logits.dim(0), kTokenDrawWords}, DType::kI32);
  sample_token(ctx, logits, vocab_size, List<SampleParams>(params), on_device);
  std::vector<TokenDraw> draws(params.size());
  on_device.copy_to_host(draws.data());
  take_draws(draws, tokens, log_probs);
}

void check_logits(const Tensor& logits, int64_t vocab_size) {
  const char* op = "sample_token";
  check_rank(op, "logits", logits, 2);
  check_dtype(op, "logits", logits, DType::kF32);
  check(vocab_size >= 1 && vocab_size <= logits.dim(1), op, ": vocab_size is ", vocab_size,
        ", expected [1, ", logits.dim(1), "]");
}

}  // namespace

void sample_token(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                  const List<SampleParams>& params, Tensor& draws) {
  const char* op = "sample_token";
  check_logits(logits, vocab_size);
  check_size(op, "params", params.size(), logits.dim(0));
  check_shape(op, "draws", draws, {logits.dim(0), kTokenDrawWords});
  check_dtype(op, "draws", draws, DType::kI32);
  cuda_ops<SampleTokenCuda>().run({logits.dim(0), logits.dim(1), vocab_size,
                                   logits.data<float>(Device::kCuda), params.data(ctx),
                                   static_cast<TokenDraw*>(draws.raw(Device::kCuda))});
}

void continue_tokens(ExecContext& ctx, const Tensor& draws, const List<int32_t>& sources,
                     int32_t* token_ids) {
  const char* op = "continue_tokens";
  check_rank(op, "draws", draws, 2);
  check_shape(op, "draws", draws, {draws.dim(0), kTokenDrawWords});
  check_dtype(op, "draws", draws, DType::kI32);
  cuda_ops<SampleTokenCuda>().continue_tokens(
      {static_cast<int64_t>(sources.size()),
       static_cast<const TokenDraw*>(draws.raw(Device::kCuda)), sources.data(ctx), token_ids});
}

void take_draws(std::span<const TokenDraw> draws, std::span<int32_t> tokens,
                std::span<float> log_probs) {
  for (size_t t = 0; t < draws.size(); ++t) {
    if (draws[t].token < 0) throw_no_distribution(t, draws.size(), draws[t].log_prob);
    tokens[t] = draws[t].token;
    log_probs[t] = draws[t].log_prob;
  }
}

void sample_token(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                  std::span<const SampleParams> params, std::span<int32_t> tokens,
                  std::span<float> log_probs) {
  const char* op = "sample_token";
  check_logits(logits, vocab_size);
  check_size(op, "params", params.size(), logits.dim(0));
  check_size(op, "tokens", tokens.size(), logits.dim(0));
  check_size(op, "log_probs", log_probs.size(), logits.dim(0));
  for (size_t t = 0; t < params.size(); ++t) check_params(t, params[t]);
  switch (ctx.device()) {
    case Device::kCpu:
      return sample_cpu(ctx, logits, vocab_size, params, tokens, log_probs);
    case Device::kCuda:
      return sample_cuda(ctx, logits, vocab_size, params, tokens, log_probs);
  }
}

}  // namespace moerl::kernels
