#include "kernels/loss/token_log_prob.h"

#include <cmath>

#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/parallel_rows.h"
#include "kernels/cuda/backend.h"
#include "kernels/list.h"
#include "kernels/loss/token_log_prob_impl.h"

namespace moerl::kernels {
namespace {

void check_rows(const char* op, int64_t rows, int64_t width, int64_t vocab_size, float temperature,
                std::span<const int32_t> targets) {
  check(vocab_size >= 1 && vocab_size <= width, op, ": vocab_size is ", vocab_size,
        ", expected [1, ", width, "]");
  check(temperature > 0 && std::isfinite(temperature), op, ": temperature is ", temperature,
        ", expected > 0 and finite");
  check_size(op, "targets", targets.size(), rows);
  for (size_t t = 0; t < targets.size(); ++t)
    check(targets[t] >= 0 && targets[t] < vocab_size, op, ": targets[", t, "] is ", targets[t],
          ", expected [0, ", vocab_size, ")");
}

void check_outputs(const char* op, int64_t rows, std::span<float> log_probs,
                   std::span<float> entropy, std::span<float> lse) {
  check_size(op, "log_probs", log_probs.size(), rows);
  check_size_or_empty(op, "entropy", entropy.size(), rows);
  check_size_or_empty(op, "lse", lse.size(), rows);
}

void check_hidden(const char* op, const Tensor& hidden, const PackedWeight& head) {
  check_rank(op, "hidden", hidden, 2);
  check_dtype(op, "hidden", hidden, head.dtype);
  check(hidden.dim(1) == head.in_features, op, ": hidden is ", hidden.shape(), ", expected ",
        head.in_features, " columns");
}

/// Rows whose logits exist at one time. A chunk reads (and in backward adds to) the whole head, so
/// it has enough rows to pay for that; a very large vocabulary gets fewer, to bound the memory.
int64_t chunk_rows(int64_t vocab_size) {
  constexpr int64_t kElements = int64_t{16} << 20, kLeast = 64, kMost = 512;
  return std::clamp(kElements / vocab_size / kLeast * kLeast, kLeast, kMost);
}

}  // namespace

int64_t token_log_prob_workspace_bytes(int64_t rows, int64_t vocab_size, DType dtype) {
  // Backward has their gradients, too, rounded to the head's type; fp32 ones take the logits'
  // place.
  const int64_t size = sizeof(float) + (dtype == DType::kF32 ? 0 : dtype_size(dtype));
  return std::min(rows, chunk_rows(vocab_size)) * vocab_size * size;
}

namespace {

/// Where the results of some rows go; entropy and lse may be null.
struct RowResults {
  float *log_probs, *entropy, *lse;
};

/// All pointers are of ctx's device.
void log_prob_rows(ExecContext& ctx, const Tensor& logits, int64_t vocab_size, float temperature,
                   const int32_t* targets, const RowResults& out) {
  const float inverse_temperature = 1.0f / temperature;
  const int64_t rows = logits.dim(0), width = logits.dim(1);
  const float* data = logits.data<float>(ctx.device());
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, rows, rows_per_turn(vocab_size), [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; ++t) {
            const float* row = data + t * width;
            const LogitsRow stats = TokenLogProbCpu<isa>::row(row, vocab_size, inverse_temperature,
                                                              out.entropy != nullptr, nullptr);
            out.log_probs[t] = row[targets[t]] * inverse_temperature - stats.lse;
            if (out.entropy != nullptr) out.entropy[t] = stats.entropy;
            if (out.lse != nullptr) out.lse[t] = stats.lse;
          }
        });
      });
    case Device::kCuda:
      return cuda_ops<TokenLogProbCuda>().forward({rows, width, vocab_size, inverse_temperature,
                                                   data, targets, out.log_probs, out.entropy,
                                                   out.lse});
  }
}

/// What backward is given of some rows, in the memory of ctx's device; entropy and dentropy may be
/// null.
struct RowGradients {
  const int32_t* targets;
  const float *lse, *entropy, *dlog_probs, *dentropy;
};

/// @param dlogits  may be the memory of logits if fp32.
void logits_backward(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                     float inverse_temperature, const RowGradients& in, Tensor& dlogits) {
  const int64_t rows = logits.dim(0), width = logits.dim(1), size = dtype_size(dlogits.dtype());
  const float* data = logits.data<float>(ctx.device());
  switch (ctx.device()) {
    case Device::kCpu:
      return dispatch_isa(ctx.isa(), [&]<Isa isa>() {
        parallel_rows(ctx, rows, rows_per_turn(width), [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; ++t) {
            const LogitsRowGrad grad{in.targets[t], in.lse[t],
                                     in.entropy == nullptr ? 0.0f : in.entropy[t], in.dlog_probs[t],
                                     in.dentropy == nullptr ? 0.0f : in.dentropy[t]};
            TokenLogProbCpu<isa>::backward_row(
                data + t * width, vocab_size, width, inverse_temperature, grad, dlogits.dtype(),
                static_cast<char*>(dlogits.raw()) + t * width * size);
          }
        });
      });
    case Device::kCuda:
      return cuda_ops<TokenLogProbCuda>().backward(
          {rows, width, vocab_size, inverse_temperature, data, in.targets, in.lse, in.entropy,
           in.dlog_probs, in.dentropy, dlogits.dtype(), dlogits.raw(Device::kCuda)});
  }
}

}  // namespace

void log_prob_from_logits(ExecContext& ctx, const Tensor& logits, int64_t vocab_size,
                          float temperature, std::span<const int32_t> targets,
                          std::span<float> log_probs, std::span<float> entropy,
                          std::span<float> lse) {
  const char* op = "log_prob_from_logits";
  check_rank(op, "logits", logits, 2);
  check_dtype(op, "logits", logits, DType::kF32);
  check_rows(op, logits.dim(0), logits.dim(1), vocab_size, temperature, targets);
  check_outputs(op, logits.dim(0), log_probs, entropy, lse);
  const List<int32_t> ids(targets);
  Results<float> log_prob(ctx, log_probs), entropies(ctx, entropy), lses(ctx, lse);
  log_prob_rows(ctx, logits, vocab_size, temperature, ids.data(ctx),
                {log_prob.data(), entropies.data(), lses.data()});
  log_prob.fetch(), entropies.fetch(), lses.fetch();
}

void token_log_prob_forward(ExecContext& ctx, const Tensor& hidden, const PackedWeight& head,
                            int64_t vocab_size, float temperature, std::span<const int32_t> targets,
                            std::span<float> log_probs, std::span<float> entropy,
                            std::span<float> lse) {
  const char* op = "token_log_prob";
  check_hidden(op, hidden, head);
  const int64_t rows = hidden.dim(0), width = head.out_features;
  check_rows(op, rows, width, vocab_size, temperature, targets);
  check_outputs(op, rows, log_probs, entropy, lse);
  const int64_t chunk = std::min(rows, chunk_rows(width));
  Tensor buffer = ctx.empty(Shape{chunk, width}, DType::kF32);
  const List<int32_t> ids(targets);
  Results<float> log_prob(ctx, log_probs), entropies(ctx, entropy), lses(ctx, lse);
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk);
    Tensor logits = buffer.rows(0, end - begin);
    linear_forward(ctx, hidden.rows(begin, end), head, logits);
    log_prob_rows(ctx, logits, vocab_size, temperature, ids.data(ctx) + begin,
                  {log_prob.data(begin), entropies.data(begin), lses.data(begin)});
  }
  log_prob.fetch(), entropies.fetch(), lses.fetch();
}

void token_log_prob_backward(ExecContext& ctx, const Tensor& hidden, const PackedWeight& head,
                             int64_t vocab_size, float temperature,
                             std::span<const int32_t> targets, std::span<const float> lse,
                             std::span<const float> entropy, std::span<const float> dlog_probs,
                             std::span<const float> dentropy, Tensor& dhidden, Tensor& dhead) {
  const char* op = "token_log_prob_backward";
  check_hidden(op, hidden, head);
  const int64_t rows = hidden.dim(0), width = head.out_features;
  check_rows(op, rows, width, vocab_size, temperature, targets);
  check_size(op, "lse", lse.size(), rows);
  check_size(op, "dlog_probs", dlog_probs.size(), rows);
  check_size_or_empty(op, "dentropy", dentropy.size(), rows);
  if (!dentropy.empty()) check_size(op, "entropy", entropy.size(), rows);
  check_shape(op, "dhidden", dhidden, hidden.shape());
  check_shape(op, "dhead", dhead, Shape{width, head.in_features});
  check_dtype(op, "dhead", dhead, DType::kF32);

  const int64_t chunk = std::min(rows, chunk_rows(width));
  const List<int32_t> ids(targets);
  const List<float> lses(lse), entropies(entropy), dlog_prob(dlog_probs), dentropies(dentropy);
  const auto at = [&](const List<float>& list, int64_t begin) {
    return list.size() == 0 ? nullptr : list.data(ctx) + begin;
  };
  Tensor logits_buffer = ctx.empty(Shape{chunk, width}, DType::kF32);
  Tensor dlogits_buffer =
      head.dtype == DType::kF32 ? logits_buffer : ctx.empty(Shape{chunk, width}, head.dtype);
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk);
    const Tensor x = hidden.rows(begin, end);
    Tensor logits = logits_buffer.rows(0, end - begin);
    Tensor dlogits = dlogits_buffer.rows(0, end - begin), dx = dhidden.rows(begin, end);
    linear_forward(ctx, x, head, logits);
    logits_backward(ctx, logits, vocab_size, 1.0f / temperature,
                    {ids.data(ctx) + begin, at(lses, begin), at(entropies, begin),
                     at(dlog_prob, begin), at(dentropies, begin)},
                    dlogits);
    linear_dgrad(ctx, dlogits, head, dx);
    linear_wgrad(ctx, dlogits, x, dhead);
  }
}

}  // namespace moerl::kernels
