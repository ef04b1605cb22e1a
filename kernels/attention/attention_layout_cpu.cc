#include <cstring>

#include "kernels/attention/attention_impl.h"
#include "kernels/cpu/dispatch.h"

namespace moerl::kernels {
namespace {

/// The keys of one run, transposed: position offset + i of dimension d.
template <typename Bits>
void append_keys(const KvAppendArgs& args, const KvRun& run, int64_t head) {
  const AttentionDims& d = args.dims;
  const int64_t row_step = d.num_kv_heads * d.k_dim;
  const Bits* from = static_cast<const Bits*>(args.k) + run.row * row_step + head * d.k_dim;
  Bits* to = static_cast<Bits*>(args.keys) +
             (run.block * d.num_kv_heads + head) * d.k_dim * kKvBlock + run.offset;
  for (int64_t j = 0; j < d.k_dim; ++j)
    for (int64_t i = 0; i < run.count; ++i) to[j * kKvBlock + i] = from[i * row_step + j];
}

void append_values(const KvAppendArgs& args, const KvRun& run, int64_t head) {
  const AttentionDims& d = args.dims;
  const int64_t width = d.v_dim * args.element_size;
  const char* from = static_cast<const char*>(args.v) + (run.row * d.num_kv_heads + head) * width;
  char* to = static_cast<char*>(args.values) +
             ((run.block * d.num_kv_heads + head) * kKvBlock + run.offset) * width;
  for (int64_t i = 0; i < run.count; ++i)
    std::memcpy(to + i * width, from + i * d.num_kv_heads * width, static_cast<size_t>(width));
}

}  // namespace

template <>
void AttentionLayoutCpu<kIsa>::kv_append(ThreadPool& pool, const KvAppendArgs& args) {
  const int64_t per_chunk = args.num_runs < 64 ? 1 : 8;
  pool.parallel_for((args.num_runs + per_chunk - 1) / per_chunk, [&](int64_t chunk) {
    for (int64_t i = chunk * per_chunk; i < (chunk + 1) * per_chunk && i < args.num_runs; ++i)
      for (int64_t head = 0; head < args.dims.num_kv_heads; ++head) {
        if (args.element_size == 2)
          append_keys<uint16_t>(args, args.runs[i], head);
        else
          append_keys<uint32_t>(args, args.runs[i], head);
        if (args.values != nullptr) append_values(args, args.runs[i], head);
      }
  });
}

}  // namespace moerl::kernels
