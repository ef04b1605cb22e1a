#include <limits>
#include <utility>

#include "kernels/attention/attention_tile_cpu.h"
#include "kernels/cpu/dispatch.h"

namespace moerl::kernels {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// What rows have of some keys: m, l (the lane tree's) and acc.
struct Softmax {
  float *max, *total;  // [rows]
  float* acc;          // [rows, Dv padded]
};

/// The state of up to kAttentionRows rows on their walk over the key blocks.
struct Rows {
  int64_t count;
  float* q;                  // [rows, Dk]
  Softmax split, merged;     // of the present split; of those before it
  float *scores, *sums;      // [rows, kKvBlock], [rows, 16]
  float *next_max, *factor;  // [rows]
  float *keys, *values;      // one block as fp32: [Dk, kKvBlock], [kKvBlock, Dv padded]
  int64_t position[kAttentionRows];
  int64_t valid[kAttentionRows];  // keys of the present block that the row sees
};

Rows place_rows(const AttentionDims& d, int64_t count, float* scratch) {
  Rows rows;
  rows.count = count;
  auto take = [&scratch](int64_t n) {
    float* p = scratch;
    scratch += n;
    return p;
  };
  rows.scores = take(kAttentionRows * kKvBlock);
  rows.sums = take(kAttentionRows * kLanes);
  rows.values = take(kKvBlock * d.v_padded());
  for (Softmax* part : {&rows.split, &rows.merged}) {
    part->max = take(kAttentionRows);
    part->total = take(kAttentionRows);
    part->acc = take(kAttentionRows * d.v_padded());
  }
  rows.next_max = take(kAttentionRows);
  rows.factor = take(kAttentionRows);
  rows.q = take(kAttentionRows * d.k_dim);
  rows.keys = take(kKvBlock * d.k_dim);
  return rows;
}

/// Scores of rows [first, count) to the first `vectors` * 16 keys of the block.
template <typename T>
void score_block(const AttentionDims& d, Rows& rows, int64_t first, int64_t vectors,
                 const T* keys) {
  multiply<Start::kZero>(TileProduct<T>{rows.q + first * d.k_dim, d.k_dim, 1, keys, kKvBlock,
                                        rows.scores + first * kKvBlock, kKvBlock, nullptr},
                         rows.count - first, vectors, d.k_dim);
}

/// Turns the block's scores into probabilities against the new maximum; keys that a row does not
/// see get exactly 0. `factor` becomes what the sums so far are multiplied with.
void softmax_block(Rows& rows, int64_t first, int64_t vectors, float scale) {
  const F32x16 minus_infinity = set1(kMinusInfinity);
  for (int64_t r = first; r < rows.count; ++r) {
    float* s = rows.scores + r * kKvBlock;
    F32x16 largest = minus_infinity;
    for (int64_t v = 0; v < vectors; ++v) {
      F32x16 x = load(s + v * kLanes) * set1(scale);
      const int64_t seen = rows.valid[r] - v * kLanes;
      if (seen < kLanes) x = keep_lanes(x, seen, minus_infinity);
      store(s + v * kLanes, x);
      largest = max(largest, x);
    }
    const float m = max_lanes(largest);
    rows.next_max[r] = m > rows.split.max[r] ? m : rows.split.max[r];
  }
  for (int64_t r = first / kLanes * kLanes; r < rows.count; r += kLanes) {
    const F32x16 next = load(rows.next_max + r);
    store(rows.factor + r, exp(load(rows.split.max + r) - next));
    store(rows.split.max + r, next);
  }
  for (int64_t r = first; r < rows.count; ++r) {
    float* s = rows.scores + r * kKvBlock;
    const F32x16 m = set1(rows.split.max[r]);
    F32x16 sum = load(rows.sums + r * kLanes) * set1(rows.factor[r]);
    for (int64_t v = 0; v < vectors; ++v) {
      const F32x16 p = exp(load(s + v * kLanes) - m);
      store(s + v * kLanes, p);
      sum = sum + p;
    }
    store(rows.sums + r * kLanes, sum);
  }
}

/// acc = acc * factor + P V. Keys that a row does not see are left out, not added as zeros: their
/// slots may hold anything.
template <typename T>
void add_values(const AttentionDims& d, Rows& rows, int64_t first, const T* values,
                int64_t value_step) {
  const int64_t width = d.v_padded();
  auto product = [&](int64_t row, int64_t key, int64_t lane) {
    return TileProduct<T>{rows.scores + row * kKvBlock + key,
                          kKvBlock,
                          1,
                          values + key * value_step + lane,
                          value_step,
                          rows.split.acc + row * width + lane,
                          width,
                          rows.factor + row};
  };
  const RowParts parts(first, rows.count);
  for (int64_t lane = 0; lane < width; lane += kSweepVectors * kLanes) {
    const int64_t left = (width - lane) / kLanes;
    const int64_t vectors = left < kSweepVectors ? left : kSweepVectors;
    for (int64_t i = 0; i < parts.parts; ++i) {
      const int64_t begin = parts.first(i), end = parts.first(i + 1), common = rows.valid[begin];
      multiply_rows<Start::kScaled>(product(begin, 0, lane), end - begin, vectors, common);
      for (int64_t r = begin + 1; r < end; ++r)
        if (rows.valid[r] > common)
          multiply_rows<Start::kStored>(product(r, common, lane), 1, vectors,
                                        rows.valid[r] - common);
    }
  }
}

/// @param values  null: the first Dv of the keys.
template <typename T>
void attend_block(const AttentionForwardArgs& args, Rows& rows, int64_t first, const T* keys,
                  const T* values) {
  const AttentionDims& d = args.dims;
  const int64_t last_valid = rows.valid[rows.count - 1];
  const int64_t vectors = last_valid > kLanes ? 2 : 1;
  // A conversion pays when more than two register tiles read the block.
  const bool convert = sizeof(T) != sizeof(float) && rows.count - first > 2 * kTileRows;
  if (convert) {
    copy_as_float(keys, kKvBlock * d.k_dim, 0, rows.keys);
    score_block(d, rows, first, vectors, static_cast<const float*>(rows.keys));
  } else {
    score_block(d, rows, first, vectors, keys);
  }
  softmax_block(rows, first, vectors, args.scale);
  if (values == nullptr) {
    transpose_as_float(keys, d.v_dim, vectors, rows.values, d.v_padded());
    add_values(d, rows, first, static_cast<const float*>(rows.values), d.v_padded());
  } else if (convert || d.v_dim != d.v_padded()) {
    for (int64_t j = 0; j < last_valid; ++j)
      copy_as_float(values + j * d.v_dim, d.v_dim, d.v_padded(), rows.values + j * d.v_padded());
    add_values(d, rows, first, static_cast<const float*>(rows.values), d.v_padded());
  } else {
    add_values(d, rows, first, values, d.v_dim);
  }
}

/// Index among the batch's T * H rows.
int64_t batch_row(const AttentionDims& d, const AttentionSegment& segment, int64_t kv_head,
                  int64_t row) {
  return (segment.first_row + row / d.group()) * d.num_heads + kv_head * d.group() +
         row % d.group();
}

/// Rows [first, count) begin a split.
void start_split(const AttentionDims& d, Rows& rows, int64_t first) {
  const Softmax& split = rows.split;
  for (int64_t i = first * d.v_padded(); i < rows.count * d.v_padded(); ++i) split.acc[i] = 0;
  for (int64_t i = first * kLanes; i < rows.count * kLanes; ++i) rows.sums[i] = 0;
  for (int64_t r = 0; r < kAttentionRows; ++r) split.max[r] = rows.next_max[r] = kMinusInfinity;
}

/// Merges the split that rows [first, count) have gone through into those before it.
void end_split(const AttentionDims& d, Rows& rows, int64_t first, bool is_first_split) {
  const Softmax &split = rows.split, &merged = rows.merged;
  for (int64_t r = first; r < rows.count; ++r)
    split.total[r] = sum_lanes(load(rows.sums + r * kLanes));
  if (is_first_split) return std::swap(rows.split, rows.merged);
  for (int64_t r = first; r < rows.count; ++r) {
    const float max = split.max[r] > merged.max[r] ? split.max[r] : merged.max[r];
    const F32x16 before = exp(set1(merged.max[r]) - set1(max));
    const F32x16 now = exp(set1(split.max[r]) - set1(max));
    merged.max[r] = max;
    store_partial(merged.total + r, fma(set1(split.total[r]), now, set1(merged.total[r]) * before),
                  1);
    float* acc = merged.acc + r * d.v_padded();
    for (int64_t i = 0; i < d.v_padded(); i += kLanes)
      store(acc + i, fma(load(split.acc + r * d.v_padded() + i), now, load(acc + i) * before));
  }
}

template <typename T>
void finish_rows(const AttentionForwardArgs& args, const AttentionItem& item, Rows& rows) {
  const AttentionDims& d = args.dims;
  const Softmax& merged = rows.merged;
  for (int64_t r = rows.count; r < kAttentionRows; ++r) merged.total[r] = 1;
  for (int64_t r = 0; r < rows.count; ++r) {
    float* acc = merged.acc + r * d.v_padded();
    const F32x16 total = set1(merged.total[r]);
    for (int64_t i = 0; i < d.v_padded(); i += kLanes) store(acc + i, load(acc + i) / total);
    const int64_t to = batch_row(d, args.segments[item.segment], item.kv_head, item.row_begin + r);
    copy_from_float(acc, d.v_dim, static_cast<T*>(args.o) + to * d.v_dim);
  }
  if (args.lse == nullptr) return;
  for (int64_t r = 0; r < rows.count; r += kLanes)
    store(merged.max + r, load(merged.max + r) + log(load(merged.total + r)));
  for (int64_t r = 0; r < rows.count; ++r)
    args.lse[batch_row(d, args.segments[item.segment], item.kv_head, item.row_begin + r)] =
        merged.max[r];
}

template <typename T>
void attend_item(const AttentionForwardArgs& args, const AttentionItem& item, float* scratch) {
  const AttentionDims& d = args.dims;
  const AttentionSegment& segment = args.segments[item.segment];
  const int32_t* block_table = segment.block_table.data();
  Rows rows = place_rows(d, item.row_end - item.row_begin, scratch);
  for (int64_t r = 0; r < rows.count; ++r) {
    const int64_t from = batch_row(d, segment, item.kv_head, item.row_begin + r);
    copy_as_float(static_cast<const T*>(args.q) + from * d.k_dim, d.k_dim, 0, rows.q + r * d.k_dim);
    rows.position[r] = segment.start + (item.row_begin + r) / d.group();
  }
  const int64_t last = rows.position[rows.count - 1];
  int64_t first = 0;  // rows before it end before the present position
  auto skip_rows = [&](int64_t position) {
    while (rows.position[first] < position) ++first;
  };
  for (int64_t split = 0; split <= last; split += kKvSplit) {
    skip_rows(split);
    const int64_t first_of_split = first;
    start_split(d, rows, first);
    for (int64_t begin = split; begin <= last && begin < split + kKvSplit; begin += kKvBlock) {
      skip_rows(begin);
      for (int64_t r = first; r < rows.count; ++r) {
        const int64_t seen = rows.position[r] - begin + 1;
        rows.valid[r] = seen < kKvBlock ? seen : kKvBlock;
      }
      const int64_t slot = block_table[begin / kKvBlock] * d.num_kv_heads + item.kv_head;
      const T* values = static_cast<const T*>(args.values);
      attend_block(args, rows, first, static_cast<const T*>(args.keys) + slot * d.k_dim * kKvBlock,
                   values == nullptr ? nullptr : values + slot * d.v_dim * kKvBlock);
    }
    end_split(d, rows, first_of_split, split == 0);
  }
  finish_rows<T>(args, item, rows);
}

}  // namespace

template <>
void AttentionForwardCpu<kIsa>::run(ThreadPool& pool, const AttentionForwardArgs& args) {
  WorkQueue queue(args.num_items);
  pool.parallel_for(args.num_workers, [&](int64_t worker) {
    float* scratch = args.scratch + worker * attention_forward_scratch(args.dims);
    for (int64_t i; (i = queue.draw()) >= 0;) {
      if (args.is_bf16)
        attend_item<bf16>(args, args.items[i], scratch);
      else
        attend_item<float>(args, args.items[i], scratch);
    }
  });
}

}  // namespace moerl::kernels
