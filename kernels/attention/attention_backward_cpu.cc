#include "kernels/attention/attention_tile_cpu.h"
#include "kernels/cpu/dispatch.h"

namespace moerl::kernels {
namespace {

using Args = AttentionBackwardArgs;

/// One block of keys and values of a unit, as fp32.
struct Block {
  float *keys_transposed, *values_transposed;  // [Dk, kKvBlock], [Dv, kKvBlock]
  float *keys, *dkeys, *dvalues;               // [kKvBlock, Dk padded] twice, [kKvBlock, Dv padded]
};

Block block_of(const Args& args, const AttentionUnit& unit, int64_t index) {
  const AttentionDims& d = args.dims;
  Block block;
  block.keys_transposed = unit.scratch + index * attention_unit_block_floats(d);
  block.values_transposed = block.keys_transposed + d.k_dim * kKvBlock;
  block.keys = block.values_transposed + d.v_dim * kKvBlock;
  block.dkeys = block.keys + kKvBlock * d.k_padded();
  block.dvalues = block.dkeys + kKvBlock * d.k_padded();
  return block;
}

/// A run of query rows of a unit; row r is query row `begin + r` of its segment and key head.
struct RowTile {
  int64_t begin, count;
  float *q, *dq, *dout;  // [rows, Dk padded] twice, [rows, Dv padded]
  float *p, *ds;         // [rows, kKvBlock]
  float *lse, *delta;    // [rows]
};

RowTile place_tile(const AttentionDims& d, float* scratch) {
  RowTile tile{};
  auto take = [&scratch](int64_t n) {
    float* p = scratch;
    scratch += n;
    return p;
  };
  tile.p = take(kAttentionRows * kKvBlock);
  tile.ds = take(kAttentionRows * kKvBlock);
  tile.q = take(kAttentionRows * d.k_padded());
  tile.dq = take(kAttentionRows * d.k_padded());
  tile.dout = take(kAttentionRows * d.v_padded());
  tile.lse = take(kAttentionRows);
  tile.delta = take(kAttentionRows);
  return tile;
}

int64_t num_query_rows(const Args& args, const AttentionUnit& unit) {
  return args.segments[unit.segment].num_rows * args.dims.group();
}
int64_t num_blocks(const Args& args, const AttentionUnit& unit) {
  return (args.segments[unit.segment].num_rows + kKvBlock - 1) / kKvBlock;
}
/// Index of a query row of the unit among the batch's T * H rows.
int64_t batch_row(const Args& args, const AttentionUnit& unit, int64_t row) {
  const AttentionDims& d = args.dims;
  return (args.segments[unit.segment].first_row + row / d.group()) * d.num_heads +
         unit.kv_head * d.group() + row % d.group();
}
/// Index of a key of the unit among the batch's T * Hk keys.
int64_t batch_key(const Args& args, const AttentionUnit& unit, int64_t position) {
  return (args.segments[unit.segment].first_row + position) * args.dims.num_kv_heads + unit.kv_head;
}
/// Keys of a block that the sequence has.
int64_t keys_in_block(const Args& args, const AttentionUnit& unit, int64_t block) {
  const int64_t n = args.segments[unit.segment].num_rows - block * kKvBlock;
  return n < kKvBlock ? n : kKvBlock;
}

/// Converts the block's keys and values and clears the sums of their gradients.
template <typename T>
void prepare_block(const Args& args, const AttentionUnit& unit, int64_t index) {
  const AttentionDims& d = args.dims;
  const Block block = block_of(args, unit, index);
  const int64_t count = keys_in_block(args, unit, index);
  for (int64_t j = 0; j < kKvBlock; ++j) {
    float* key = block.keys + j * d.k_padded();
    float* value = block.dvalues + j * d.v_padded();  // on its way to the transposed copy
    if (j < count) {
      const int64_t from = batch_key(args, unit, index * kKvBlock + j);
      copy_as_float(static_cast<const T*>(args.k) + from * d.k_dim, d.k_dim, d.k_padded(), key);
      copy_as_float(static_cast<const T*>(args.v) + from * d.v_dim, d.v_dim, d.v_padded(), value);
    } else {
      for (int64_t i = 0; i < d.k_padded(); ++i) key[i] = 0;
      for (int64_t i = 0; i < d.v_padded(); ++i) value[i] = 0;
    }
  }
  for (int64_t i = 0; i < d.k_dim; ++i)
    for (int64_t j = 0; j < kKvBlock; ++j)
      block.keys_transposed[i * kKvBlock + j] = block.keys[j * d.k_padded() + i];
  for (int64_t i = 0; i < d.v_dim; ++i)
    for (int64_t j = 0; j < kKvBlock; ++j)
      block.values_transposed[i * kKvBlock + j] = block.dvalues[j * d.v_padded() + i];
  for (int64_t i = 0; i < kKvBlock * d.k_padded(); ++i) block.dkeys[i] = 0;
  for (int64_t i = 0; i < kKvBlock * d.v_padded(); ++i) block.dvalues[i] = 0;
}

template <typename T>
void write_block(const Args& args, const AttentionUnit& unit, int64_t index) {
  const AttentionDims& d = args.dims;
  const Block block = block_of(args, unit, index);
  for (int64_t j = 0; j < keys_in_block(args, unit, index); ++j) {
    const int64_t to = batch_key(args, unit, index * kKvBlock + j);
    copy_from_float(block.dkeys + j * d.k_padded(), d.k_dim,
                    static_cast<T*>(args.dk) + to * d.k_dim);
    copy_from_float(block.dvalues + j * d.v_padded(), d.v_dim,
                    static_cast<T*>(args.dv) + to * d.v_dim);
  }
}

template <typename T>
void load_tile(const Args& args, const AttentionUnit& unit, int64_t index, RowTile& tile) {
  const AttentionDims& d = args.dims;
  tile.begin = index * kAttentionRows;
  tile.count = num_query_rows(args, unit) - tile.begin;
  if (tile.count > kAttentionRows) tile.count = kAttentionRows;
  for (int64_t r = 0; r < tile.count; ++r) {
    const int64_t from = batch_row(args, unit, tile.begin + r);
    float* dout = tile.dout + r * d.v_padded();
    copy_as_float(static_cast<const T*>(args.q) + from * d.k_dim, d.k_dim, d.k_padded(),
                  tile.q + r * d.k_padded());
    copy_as_float(static_cast<const T*>(args.dout) + from * d.v_dim, d.v_dim, d.v_padded(), dout);
    const T* o = static_cast<const T*>(args.o) + from * d.v_dim;
    F32x16 sum = zero();
    int64_t i = 0;
    for (; i + kLanes <= d.v_dim; i += kLanes) sum = fma(load(dout + i), load(o + i), sum);
    if (i < d.v_dim) sum = fma(load(dout + i), load_partial(o + i, d.v_dim - i), sum);
    tile.delta[r] = sum_lanes(sum);
    tile.lse[r] = args.lse[from];
  }
  for (int64_t i = 0; i < tile.count * d.k_padded(); ++i) tile.dq[i] = 0;
}

template <typename T>
void write_tile(const Args& args, const AttentionUnit& unit, const RowTile& tile) {
  const AttentionDims& d = args.dims;
  for (int64_t r = 0; r < tile.count; ++r)
    copy_from_float(tile.dq + r * d.k_padded(), d.k_dim,
                    static_cast<T*>(args.dq) + batch_row(args, unit, tile.begin + r) * d.k_dim);
}

/// P and dS of rows [first, count) of the tile against one block, 0 where the key lies behind the
/// row.
void probabilities(const Args& args, const RowTile& tile, const Block& block, int64_t block_index,
                   int64_t first) {
  const AttentionDims& d = args.dims;
  const int64_t rows = tile.count - first;
  multiply<Start::kZero>(
      TileProduct<float>{tile.q + first * d.k_padded(), d.k_padded(), 1, block.keys_transposed,
                         kKvBlock, tile.p + first * kKvBlock, kKvBlock, nullptr},
      rows, 2, d.k_dim);
  multiply<Start::kZero>(
      TileProduct<float>{tile.dout + first * d.v_padded(), d.v_padded(), 1, block.values_transposed,
                         kKvBlock, tile.ds + first * kKvBlock, kKvBlock, nullptr},
      rows, 2, d.v_dim);
  const F32x16 scale = set1(args.scale);
  for (int64_t r = first; r < tile.count; ++r) {
    const int64_t seen = (tile.begin + r) / d.group() - block_index * kKvBlock + 1;
    const F32x16 lse = set1(tile.lse[r]), delta = set1(tile.delta[r]);
    for (int64_t v = 0; v < kKvBlock; v += kLanes) {
      float* p_at = tile.p + r * kKvBlock + v;
      float* ds_at = tile.ds + r * kKvBlock + v;
      F32x16 p = exp(load(p_at) * scale - lse);
      F32x16 ds = scale * p * (load(ds_at) - delta);
      if (seen - v < kLanes) {
        p = keep_lanes(p, seen - v, zero());
        ds = keep_lanes(ds, seen - v, zero());
      }
      store(p_at, p);
      store(ds_at, ds);
    }
  }
}

/// Adds what one tile of rows and one block of keys have with each other to dq, or to dk and dv,
/// or to all.
void add_products(const Args& args, RowTile& tile, const Block& block, int64_t block_index,
                  bool rows_wanted, bool keys_wanted) {
  const AttentionDims& d = args.dims;
  int64_t first = block_index * kKvBlock * d.group() - tile.begin;  // earlier rows see none of it
  if (first < 0) first = 0;
  probabilities(args, tile, block, block_index, first);
  const int64_t rows = tile.count - first;
  const int64_t k_vectors = d.k_padded() / kLanes, v_vectors = d.v_padded() / kLanes;
  if (rows_wanted)
    multiply<Start::kStored>(
        TileProduct<float>{tile.ds + first * kKvBlock, kKvBlock, 1, block.keys, d.k_padded(),
                           tile.dq + first * d.k_padded(), d.k_padded(), nullptr},
        rows, k_vectors, kKvBlock);
  if (!keys_wanted) return;
  multiply<Start::kStored>(
      TileProduct<float>{tile.ds + first * kKvBlock, 1, kKvBlock, tile.q + first * d.k_padded(),
                         d.k_padded(), block.dkeys, d.k_padded(), nullptr},
      kKvBlock, k_vectors, rows);
  multiply<Start::kStored>(
      TileProduct<float>{tile.p + first * kKvBlock, 1, kKvBlock, tile.dout + first * d.v_padded(),
                         d.v_padded(), block.dvalues, d.v_padded(), nullptr},
      kKvBlock, v_vectors, rows);
}

int64_t num_tiles(const Args& args, const AttentionUnit& unit) {
  return (num_query_rows(args, unit) + kAttentionRows - 1) / kAttentionRows;
}
/// Blocks that the rows of a tile see.
int64_t blocks_seen(const Args& args, const RowTile& tile) {
  return (tile.begin + tile.count - 1) / args.dims.group() / kKvBlock + 1;
}

template <typename T>
void run_unit(const Args& args, const AttentionUnit& unit, RowTile& tile) {
  for (int64_t b = 0; b < num_blocks(args, unit); ++b) prepare_block<T>(args, unit, b);
  for (int64_t i = 0; i < num_tiles(args, unit); ++i) {
    load_tile<T>(args, unit, i, tile);
    for (int64_t b = 0; b < blocks_seen(args, tile); ++b)
      add_products(args, tile, block_of(args, unit, b), b, true, true);
    write_tile<T>(args, unit, tile);
  }
  for (int64_t b = 0; b < num_blocks(args, unit); ++b) write_block<T>(args, unit, b);
}

template <typename T>
void run_block(const Args& args, const AttentionUnit& unit, int64_t index, RowTile& tile) {
  const Block block = block_of(args, unit, index);
  for (int64_t i = index * kKvBlock * args.dims.group() / kAttentionRows; i < num_tiles(args, unit);
       ++i) {
    load_tile<T>(args, unit, i, tile);
    add_products(args, tile, block, index, false, true);
  }
  write_block<T>(args, unit, index);
}

template <typename T>
void run_tile(const Args& args, const AttentionUnit& unit, int64_t index, RowTile& tile) {
  load_tile<T>(args, unit, index, tile);
  for (int64_t b = 0; b < blocks_seen(args, tile); ++b)
    add_products(args, tile, block_of(args, unit, b), b, true, false);
  write_tile<T>(args, unit, tile);
}

/// Whole units, each by one worker.
template <typename T>
void run_units(ThreadPool& pool, const Args& args) {
  WorkQueue queue(args.num_units);
  pool.parallel_for(args.num_workers, [&](int64_t worker) {
    RowTile tile =
        place_tile(args.dims, args.scratch + worker * attention_backward_scratch(args.dims));
    for (int64_t i; (i = queue.draw()) >= 0;) {
      AttentionUnit unit = args.units[i];
      unit.scratch = args.unit_scratch + worker * args.unit_floats;
      run_unit<T>(args, unit, tile);
    }
  });
}

/// The unit that holds piece `i`, when unit u has pieces(u); i becomes the piece's index in it.
template <typename Pieces>
const AttentionUnit& find_piece(const Args& args, int64_t& i, const Pieces& pieces) {
  const AttentionUnit* unit = args.units;
  for (; i >= pieces(*unit); ++unit) i -= pieces(*unit);
  return *unit;
}

/// Units shared out: first all blocks are prepared, then blocks and row tiles run in any order.
template <typename T>
void run_split(ThreadPool& pool, const Args& args) {
  auto blocks = [&](const AttentionUnit& unit) { return num_blocks(args, unit); };
  auto pieces = [&](const AttentionUnit& unit) {
    return num_blocks(args, unit) + num_tiles(args, unit);
  };
  int64_t all_blocks = 0, all_pieces = 0;
  for (int64_t u = 0; u < args.num_units; ++u) {
    all_blocks += blocks(args.units[u]);
    all_pieces += pieces(args.units[u]);
  }
  pool.parallel_for(all_blocks, [&](int64_t i) {
    const AttentionUnit& unit = find_piece(args, i, blocks);
    prepare_block<T>(args, unit, i);
  });
  WorkQueue queue(all_pieces);
  pool.parallel_for(args.num_workers, [&](int64_t worker) {
    RowTile tile =
        place_tile(args.dims, args.scratch + worker * attention_backward_scratch(args.dims));
    for (int64_t i; (i = queue.draw()) >= 0;) {
      const AttentionUnit& unit = find_piece(args, i, pieces);
      const int64_t n = num_blocks(args, unit);
      // Longest first: the first blocks are seen by most rows, the last rows see most blocks.
      if (i < n)
        run_block<T>(args, unit, i, tile);
      else
        run_tile<T>(args, unit, num_tiles(args, unit) - 1 - (i - n), tile);
    }
  });
}

template <typename T>
void run_all(ThreadPool& pool, const Args& args) {
  if (args.split_units)
    run_split<T>(pool, args);
  else
    run_units<T>(pool, args);
}

}  // namespace

template <>
void AttentionBackwardCpu<kIsa>::run(ThreadPool& pool, const AttentionBackwardArgs& args) {
  if (args.is_bf16)
    run_all<bf16>(pool, args);
  else
    run_all<float>(pool, args);
}

}  // namespace moerl::kernels
