#include "kernels/attention/attention.h"

#include <algorithm>
#include <vector>

#include "kernels/attention/attention_impl.h"
#include "kernels/attention/attention_wgmma.h"
#include "kernels/check_tensor.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cuda/backend.h"

namespace moerl::kernels {
namespace {

void check_cache(const char* op, const PagedKv& cache) {
  check_rank(op, "cache.keys", cache.keys, 4);
  check_f32_or_bf16(op, "cache.keys", cache.keys);
  check_shape(op, "cache.keys", cache.keys,
              {cache.keys.dim(0), cache.keys.dim(1), cache.keys.dim(2), kKvBlock});
  if (!cache.values.defined()) {
    check(cache.v_head_dim > 0 && cache.v_head_dim <= cache.keys.dim(2), op,
          ": cache.v_head_dim is ", cache.v_head_dim, ", expected 1 to the keys' ",
          cache.keys.dim(2));
    return;
  }
  check_dtype(op, "cache.values", cache.values, cache.keys.dtype());
  check_shape(op, "cache.values", cache.values,
              {cache.keys.dim(0), cache.keys.dim(1), kKvBlock, cache.v_head_dim});
}

AttentionDims dims_of(const PagedKv& cache, int64_t num_heads) {
  return {num_heads, cache.keys.dim(1), cache.keys.dim(2), cache.v_head_dim};
}

void check_heads(const char* op, int64_t num_heads, int64_t num_kv_heads) {
  check(num_kv_heads > 0 && num_heads > 0 && num_heads % num_kv_heads == 0, op, ": q has ",
        num_heads, " heads, expected a multiple of the key heads, ", num_kv_heads);
}

void check_segments(const char* op, std::span<const AttentionSegment> segments, int64_t rows) {
  for (size_t i = 0; i < segments.size(); ++i) {
    const AttentionSegment& s = segments[i];
    check(s.first_row >= 0 && s.num_rows >= 0 && s.first_row + s.num_rows <= rows, op,
          ": segments[", i, "] has rows [", s.first_row, ", ", s.first_row + s.num_rows,
          "), expected within [0, ", rows, ")");
    check(s.start >= 0, op, ": segments[", i, "].start is ", s.start, ", expected >= 0");
  }
}

void check_block_tables(const char* op, std::span<const AttentionSegment> segments,
                        int64_t num_blocks) {
  for (size_t i = 0; i < segments.size(); ++i) {
    const AttentionSegment& s = segments[i];
    if (s.num_rows == 0) continue;
    const int64_t needed = (s.start + s.num_rows + kKvBlock - 1) / kKvBlock;
    check(static_cast<int64_t>(s.block_table.size()) >= needed, op, ": segments[", i,
          "].block_table has ", s.block_table.size(), " blocks, expected at least ", needed);
    for (int64_t b = 0; b < needed; ++b) {
      const int32_t block = s.block_table[static_cast<size_t>(b)];
      check(block >= 0 && block < num_blocks, op, ": segments[", i, "].block_table[", b, "] is ",
            block, ", expected in [0, ", num_blocks, ")");
    }
  }
}

void check_segments(const char* op, const SegmentList& segments, int64_t rows, int64_t num_blocks) {
  if (!segments.on_host()) return;
  check_segments(op, segments.host(), rows);
  check_block_tables(op, segments.host(), num_blocks);
}

/// Cuts the rows of every (segment, key head) into items: whole tiles where there is plenty of
/// work, smaller ones where threads would be idle. No row's result depends on the cut.
std::vector<AttentionItem> cut_into_items(const AttentionDims& d,
                                          std::span<const AttentionSegment> segments,
                                          int num_threads) {
  int64_t rows = 0;
  for (const AttentionSegment& s : segments) rows += s.num_rows * d.num_heads;
  int64_t tile = kAttentionRows;
  if (num_threads > 1) {
    // A tile below four rows would read the keys more often than it helps.
    const int64_t fair = (rows / (4 * num_threads) + 3) / 4 * 4;
    tile = std::clamp<int64_t>(fair, 4, kAttentionRows);
  }
  std::vector<AttentionItem> items;
  for (size_t i = 0; i < segments.size(); ++i) {
    const int64_t n = segments[i].num_rows * d.group();
    for (int64_t head = 0; head < d.num_kv_heads; ++head)
      for (int64_t begin = 0; begin < n; begin += tile)
        items.push_back({static_cast<int64_t>(i), head, begin, std::min(begin + tile, n)});
  }
  auto cost = [&](const AttentionItem& item) {
    const int64_t last =
        segments[static_cast<size_t>(item.segment)].start + (item.row_end - 1) / d.group();
    return (item.row_end - item.row_begin) * (last + kKvBlock);
  };
  // Longest first, so that the threads end together; not worth it for very many items.
  if (num_threads > 1 && items.size() <= 4096)
    std::stable_sort(items.begin(), items.end(),
                     [&](const auto& a, const auto& b) { return cost(a) > cost(b); });
  return items;
}

void append_cpu(ExecContext& ctx, const Tensor& k, const Tensor& v,
                std::span<const AttentionSegment> segments, PagedKv& cache) {
  std::vector<KvRun> runs;
  for (const AttentionSegment& s : segments)
    for (int64_t done = 0; done < s.num_rows;) {
      const int64_t position = s.start + done, offset = position % kKvBlock;
      const int64_t count = std::min(kKvBlock - offset, s.num_rows - done);
      runs.push_back({s.first_row + done, s.block_table[static_cast<size_t>(position / kKvBlock)],
                      offset, count});
      done += count;
    }
  KvAppendArgs args;
  args.dims = dims_of(cache, cache.keys.dim(1));
  args.element_size = dtype_size(k.dtype());
  args.k = k.raw();
  args.v = v.raw();
  args.keys = cache.keys.raw();
  if (cache.values.defined()) args.values = cache.values.raw();
  args.runs = runs.data();
  args.num_runs = static_cast<int64_t>(runs.size());
  dispatch_isa(ctx.isa(), [&]<Isa isa>() { AttentionLayoutCpu<isa>::kv_append(ctx.pool(), args); });
}

void forward_cpu(ExecContext& ctx, const Tensor& q, const PagedKv& cache,
                 std::span<const AttentionSegment> segments, float scale, Tensor& o, Tensor* lse) {
  AttentionForwardArgs args;
  args.dims = dims_of(cache, q.dim(1));
  args.is_bf16 = q.dtype() == DType::kBF16;
  args.scale = scale;
  args.q = q.raw();
  args.keys = cache.keys.raw();
  if (cache.values.defined()) args.values = cache.values.raw();
  args.segments = segments.data();
  args.o = o.raw();
  args.lse = lse == nullptr ? nullptr : lse->data<float>();
  const std::vector<AttentionItem> items = cut_into_items(args.dims, segments, ctx.num_threads());
  args.items = items.data();
  args.num_items = static_cast<int64_t>(items.size());
  args.num_workers = std::min<int64_t>(ctx.num_threads(), args.num_items);
  Tensor scratch = ctx.empty({args.num_workers, attention_forward_scratch(args.dims)}, DType::kF32);
  args.scratch = scratch.data<float>();
  dispatch_isa(ctx.isa(), [&]<Isa isa>() { AttentionForwardCpu<isa>::run(ctx.pool(), args); });
}

void forward_cuda(ExecContext& ctx, const Tensor& q, const PagedKv& cache,
                  const SegmentList& segments, float scale, Tensor& o, Tensor* lse) {
  const Device cuda = Device::kCuda;
  AttentionForwardCuda args{.dims = dims_of(cache, q.dim(1)),
                            .is_bf16 = q.dtype() == DType::kBF16,
                            .scale = scale,
                            .rows = q.dim(0),
                            .q = q.raw(cuda),
                            .keys = cache.keys.raw(cuda),
                            .values = cache.values.defined() ? cache.values.raw(cuda) : nullptr,
                            .segments = segments.on_device(ctx),
                            .num_segments = segments.size(),
                            .most_rows = segments.most_rows(),
                            .most_keys = segments.most_keys(),
                            .o = o.raw(cuda),
                            .lse = lse == nullptr ? nullptr : lse->data<float>(cuda)};
  Tensor partials;
  if (attention_splits_side_by_side(args)) {
    partials = ctx.empty(
        {args.num_splits(), args.rows * args.dims.num_heads, attention_partial_floats(args.dims)},
        DType::kF32);
    args.partials = partials.data<float>(cuda);
  }
  if (!run_attention_on_wgmma(ctx, args)) cuda_ops<AttentionCuda>().forward(args);
}

}  // namespace

PagedKv make_paged_kv(int64_t num_blocks, int64_t num_kv_heads, int64_t k_head_dim,
                      int64_t v_head_dim, DType dtype, KvValues values, Device device) {
  check(num_blocks >= 0 && num_kv_heads > 0 && k_head_dim > 0 && v_head_dim > 0,
        "make_paged_kv: num_blocks ", num_blocks, ", num_kv_heads ", num_kv_heads, ", k_head_dim ",
        k_head_dim, ", v_head_dim ", v_head_dim, ", expected positive extents");
  check(dtype == DType::kF32 || dtype == DType::kBF16, "make_paged_kv: dtype is ",
        dtype_name(dtype), ", expected f32 or bf16");
  check(values == KvValues::kStored || v_head_dim <= k_head_dim, "make_paged_kv: v_head_dim is ",
        v_head_dim, ", expected at most k_head_dim ", k_head_dim, ", whose part it is");
  PagedKv cache{Tensor::empty({num_blocks, num_kv_heads, k_head_dim, kKvBlock}, dtype, device),
                {},
                v_head_dim};
  if (values == KvValues::kStored)
    cache.values = Tensor::empty({num_blocks, num_kv_heads, kKvBlock, v_head_dim}, dtype, device);
  return cache;
}

void kv_append(ExecContext& ctx, const Tensor& k, const Tensor& v, const SegmentList& segments,
               PagedKv& cache) {
  const char* op = "kv_append";
  check_cache(op, cache);
  check_rank(op, "k", k, 3);
  check_shape(op, "k", k, {k.dim(0), cache.keys.dim(1), cache.keys.dim(2)});
  check_shape(op, "v", v, {k.dim(0), cache.keys.dim(1), cache.v_head_dim});
  check_dtype(op, "k", k, cache.keys.dtype());
  check_dtype(op, "v", v, cache.keys.dtype());
  check_segments(op, segments, k.dim(0), cache.keys.dim(0));

  switch (ctx.device()) {
    case Device::kCpu:
      return append_cpu(ctx, k, v, segments.host(), cache);
    case Device::kCuda:
      return cuda_ops<AttentionCuda>().kv_append(
          {dims_of(cache, cache.keys.dim(1)), dtype_size(k.dtype()), k.dim(0), k.raw(Device::kCuda),
           v.raw(Device::kCuda), segments.slots_on_device(ctx, k.dim(0)),
           cache.keys.raw(Device::kCuda),
           cache.values.defined() ? cache.values.raw(Device::kCuda) : nullptr});
  }
}

void kv_copy_block(ExecContext& ctx, PagedKv& cache, int64_t from, int64_t to) {
  check_cache("kv_copy_block", cache);
  const int64_t num_blocks = cache.keys.dim(0);
  check(from >= 0 && from < num_blocks, "kv_copy_block: from is ", from, ", expected in [0, ",
        num_blocks, ")");
  check(to >= 0 && to < num_blocks, "kv_copy_block: to is ", to, ", expected in [0, ", num_blocks,
        ")");
  if (from == to) return;
  for (Tensor* x : {&cache.keys, &cache.values}) {
    if (!x->defined()) continue;
    check(x->device() == ctx.device(), "kv_copy_block: the cache lies on ",
          device_name(x->device()), ", expected ", device_name(ctx.device()));
    x->rows(to, to + 1).copy_from(x->rows(from, from + 1));
  }
}

void attention_forward(ExecContext& ctx, const Tensor& q, const PagedKv& cache,
                       const SegmentList& segments, float scale, Tensor& o, Tensor* lse) {
  const char* op = "attention_forward";
  check_cache(op, cache);
  check_rank(op, "q", q, 3);
  check_heads(op, q.dim(1), cache.keys.dim(1));
  check_shape(op, "q", q, {q.dim(0), q.dim(1), cache.keys.dim(2)});
  check_shape(op, "o", o, {q.dim(0), q.dim(1), cache.v_head_dim});
  check_dtype(op, "q", q, cache.keys.dtype());
  check_dtype(op, "o", o, q.dtype());
  if (lse != nullptr) {
    check_shape(op, "lse", *lse, {q.dim(0), q.dim(1)});
    check_dtype(op, "lse", *lse, DType::kF32);
  }
  check_segments(op, segments, q.dim(0), cache.keys.dim(0));
  switch (ctx.device()) {
    case Device::kCpu:
      return forward_cpu(ctx, q, cache, segments.host(), scale, o, lse);
    case Device::kCuda:
      return forward_cuda(ctx, q, cache, segments, scale, o, lse);
  }
}

namespace {

void check_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                    const Tensor& o, const Tensor& lse, std::span<const AttentionSegment> segments,
                    const Tensor& dq, const Tensor& dk, const Tensor& dv) {
  const char* op = "attention_backward";
  check_rank(op, "q", q, 3);
  check_rank(op, "k", k, 3);
  check_rank(op, "v", v, 3);
  check_f32_or_bf16(op, "q", q);
  check_heads(op, q.dim(1), k.dim(1));
  const int64_t rows = q.dim(0);
  check_shape(op, "k", k, {rows, k.dim(1), q.dim(2)});
  check_shape(op, "v", v, {rows, k.dim(1), v.dim(2)});
  const Shape out_shape = {rows, q.dim(1), v.dim(2)};
  check_shape(op, "o", o, out_shape);
  check_shape(op, "dout", dout, out_shape);
  check_shape(op, "lse", lse, {rows, q.dim(1)});
  check_shape(op, "dq", dq, q.shape());
  check_shape(op, "dk", dk, k.shape());
  check_shape(op, "dv", dv, v.shape());
  check_dtype(op, "lse", lse, DType::kF32);
  const std::pair<const char*, const Tensor*> same_type[] = {
      {"k", &k}, {"v", &v}, {"o", &o}, {"dout", &dout}, {"dq", &dq}, {"dk", &dk}, {"dv", &dv}};
  for (const auto& [name, tensor] : same_type) check_dtype(op, name, *tensor, q.dtype());
  check_segments(op, segments, rows);
  for (size_t i = 0; i < segments.size(); ++i)
    check(segments[i].start == 0, op, ": segments[", i, "].start is ", segments[i].start,
          ", expected 0 (whole sequences)");
}

void run_backward_cpu(ExecContext& ctx, AttentionBackwardArgs& args,
                      std::span<const AttentionSegment> segments) {
  const AttentionDims& d = args.dims;
  std::vector<AttentionUnit> units;
  int64_t most_blocks = 0, all_blocks = 0, all_cost = 0, most_cost = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const int64_t rows = segments[i].num_rows, blocks = (rows + kKvBlock - 1) / kKvBlock;
    if (rows == 0) continue;
    for (int64_t head = 0; head < d.num_kv_heads; ++head)
      units.push_back({static_cast<int64_t>(i), head, nullptr});
    most_blocks = std::max(most_blocks, blocks);
    most_cost = std::max(most_cost, blocks * blocks);
    all_blocks += blocks * d.num_kv_heads;
    all_cost += blocks * blocks * d.num_kv_heads;
  }
  std::stable_sort(units.begin(), units.end(), [&](const auto& a, const auto& b) {
    return segments[static_cast<size_t>(a.segment)].num_rows >
           segments[static_cast<size_t>(b.segment)].num_rows;
  });
  args.units = units.data();
  args.num_units = static_cast<int64_t>(units.size());
  // Sharing out costs a second computation of the probabilities: 7 products instead of 5.
  args.split_units =
      ctx.num_threads() > 1 && most_blocks > 1 && most_cost * ctx.num_threads() * 5 > all_cost * 7;
  args.num_workers =
      args.split_units ? ctx.num_threads() : std::min<int64_t>(ctx.num_threads(), args.num_units);
  args.unit_floats = most_blocks * attention_unit_block_floats(d);
  Tensor unit_scratch = ctx.empty({args.split_units ? all_blocks : args.num_workers * most_blocks,
                                   attention_unit_block_floats(d)},
                                  DType::kF32);
  args.unit_scratch = unit_scratch.data<float>();
  if (args.split_units) {
    float* next = args.unit_scratch;
    for (AttentionUnit& unit : units) {
      unit.scratch = next;
      const int64_t rows = segments[static_cast<size_t>(unit.segment)].num_rows;
      next += (rows + kKvBlock - 1) / kKvBlock * attention_unit_block_floats(d);
    }
  }
  Tensor scratch = ctx.empty({args.num_workers, attention_backward_scratch(d)}, DType::kF32);
  args.scratch = scratch.data<float>();
  dispatch_isa(ctx.isa(), [&]<Isa isa>() { AttentionBackwardCpu<isa>::run(ctx.pool(), args); });
}

}  // namespace

void attention_backward(ExecContext& ctx, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& o, const Tensor& lse,
                        const SegmentList& segments, float scale, Tensor& dq, Tensor& dk,
                        Tensor& dv) {
  check_backward(dout, q, k, v, o, lse, segments.host(), dq, dk, dv);
  const Device device = ctx.device();
  AttentionBackwardArgs args;
  args.dims = {q.dim(1), k.dim(1), q.dim(2), v.dim(2)};
  args.is_bf16 = q.dtype() == DType::kBF16;
  args.scale = scale;
  args.dout = dout.raw(device);
  args.q = q.raw(device);
  args.k = k.raw(device);
  args.v = v.raw(device);
  args.o = o.raw(device);
  args.lse = lse.data<float>(device);
  args.segments = segments.host().data();
  args.dq = dq.raw(device);
  args.dk = dk.raw(device);
  args.dv = dv.raw(device);
  switch (device) {
    case Device::kCpu:
      return run_backward_cpu(ctx, args, segments.host());
    case Device::kCuda: {
      Tensor delta = ctx.empty(lse.shape(), DType::kF32);
      return cuda_ops<AttentionGradCuda>().backward(
          {args.dims, args.is_bf16, scale, q.dim(0), args.dout, args.q, args.k, args.v, args.o,
           args.lse, segments.on_device(ctx), static_cast<int64_t>(segments.host().size()),
           segments.most_rows(), args.dq, args.dk, args.dv, delta.data<float>(device)});
    }
  }
}

}  // namespace moerl::kernels
