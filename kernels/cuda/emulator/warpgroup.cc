#include "kernels/cuda/emulator/warpgroup.h"

#include <cstring>

#include "kernels/cuda/emulator/async_copy.h"
#include "kernels/cuda/emulator/deferred.h"
#include "kernels/dtype.h"

namespace moerl::simt {
namespace {

constexpr char kOp[] = "wgmma";
constexpr int kDepth = 16, kRowBytes = 128;

Deferred<WarpgroupProduct> products;

// The emulator's own bookkeeping: no race of the kernel.
bool is_fenced[1024];

MOERL_SIMT_NO_TSAN void set_fenced(int thread, bool value) { is_fenced[thread] = value; }
MOERL_SIMT_NO_TSAN bool get_fenced(int thread) { return is_fenced[thread]; }

/// What the warps of a warpgroup have asked for: the same products in the same order.
struct Asked {
  static constexpr unsigned kRemembered = 1024;
  struct Product {
    uint64_t a, b;
    int columns;
  };
  Product products[kRemembered];         // the youngest
  unsigned most, of_warp[4], num_ended;  // products; warps that have returned

  MOERL_SIMT_NO_TSAN bool agrees(int warp, const Product& product) {
    const unsigned index = of_warp[warp]++;
    Product& there = products[index % kRemembered];
    if (index == most) {
      ++most;
      there = product;
    }
    return most - index > kRemembered ||
           (there.a == product.a && there.b == product.b && there.columns == product.columns);
  }
  /// Whether all warps have asked for as many, once all have ended.
  MOERL_SIMT_NO_TSAN bool end() {
    if (++num_ended < 4) return true;
    for (const unsigned count : of_warp)
      if (count != most) return false;
    return true;
  }
  MOERL_SIMT_NO_TSAN void begin() {
    most = num_ended = of_warp[0] = of_warp[1] = of_warp[2] = of_warp[3] = 0;
  }
};
Asked asked[1024 / 128];

/// Of an operand in shared memory: a multiple of 1024 bytes is where the swizzle begins.
void check_descriptor(uint64_t descriptor, Where where) {
  constexpr uint64_t kSwizzle128 = 1;
  if (descriptor >> 62 != kSwizzle128 || (descriptor >> 49 & 7) != 0)
    fail(kOp, "an operand has another swizzle than that of 128 bytes, or a base offset", where);
}

/// What lies in shared memory under the 128-byte swizzle of the PTX manual: rows of 128 bytes,
/// eight of them together.
template <int kCount>
void read_swizzled(uint64_t at, bf16 (&out)[kCount]) {
  std::memcpy(out, shared_memory() + (at ^ (at >> 7 & 7) << 4), sizeof(out));
}

/// The depth of index i of an operand; transposed, a row of it is a step of the depth.
void read_depth(uint64_t descriptor, bool transposed, int i, double (&out)[kDepth]) {
  constexpr int kChunk = 8;
  const auto field = [&](int shift) { return (descriptor >> shift & 0x3FFF) << 4; };
  const auto row = [&](int r) {
    return field(0) + static_cast<uint64_t>(r / 8) * field(32) +
           static_cast<uint64_t>(r % 8 * kRowBytes);
  };
  if (transposed) {
    const uint64_t column =
        static_cast<uint64_t>(i / 64) * field(16) + static_cast<uint64_t>(i % 64 * 2);
    for (int k = 0; k < kDepth; ++k) {
      bf16 value[1];
      read_swizzled(row(k) + column, value);
      out[k] = static_cast<double>(to_float(value[0]));
    }
    return;
  }
  for (int k = 0; k < kDepth; k += kChunk) {
    bf16 values[kChunk];
    read_swizzled(row(i) + static_cast<uint64_t>(2 * k), values);
    for (int j = 0; j < kChunk; ++j) out[k + j] = static_cast<double>(to_float(values[j]));
  }
}

/// This thread's share: the products of an element and what it holds are added up in double, and
/// rounded once.
void multiply(const WarpgroupProduct& product) {
  const int t = thread_rank() % 128, row = t / 32 * 16 + t % 32 / 4;
  double left[2][kDepth], right[kDepth];
  for (int half = 0; half < 2; ++half)
    if (product.a_is_in_registers)
      for (int k = 0; k < kDepth; ++k)
        left[half][k] = static_cast<double>(to_float(product.rows[half][k]));
    else
      read_depth(product.a, product.transposed_a, row + 8 * half, left[half]);
  for (int j = 0; j < product.columns / 8; ++j)
    for (int c = 0; c < 2; ++c) {
      read_depth(product.b, product.transposed_b, 8 * j + 2 * (t % 4) + c, right);
      for (int half = 0; half < 2; ++half) {
        float& to = product.d[4 * j + 2 * half + c];
        double sum = static_cast<double>(to);
        for (int k = 0; k < kDepth; ++k) sum += left[half][k] * right[k];
        to = static_cast<float>(sum);
      }
    }
}

}  // namespace

void warpgroup_multiply(const WarpgroupProduct& product, Where where) {
  if (has_unfenced_async_copies())
    fail(kOp, "a copy has landed in shared memory without fence_for_wgmma behind it", where);
  if (!get_fenced(thread_rank()))
    fail(kOp, "the first product of a group without wgmma_fence before it", where);
  if (!product.a_is_in_registers) check_descriptor(product.a, where);
  check_descriptor(product.b, where);
  WarpgroupProduct mine = product;
  collective(
      ~0u, kOp, &mine,
      [](void* const* lanes, uint32_t) MOERL_SIMT_NO_TSAN {
        const auto& first = *static_cast<const WarpgroupProduct*>(lanes[0]);
        for (int l = 1; l < 32; ++l) {
          const auto& other = *static_cast<const WarpgroupProduct*>(lanes[l]);
          if (other.a != first.a || other.b != first.b)
            fail(kOp, "the lanes of a warp differ in their operands", Where::current());
        }
        const int warp = thread_rank() / 32;
        if (!asked[warp / 4].agrees(warp % 4, {first.a, first.b, first.columns}))
          fail(kOp, "the warps of a warpgroup differ in their operands", Where::current());
      },
      false, where);
  products.ask(product);
}

void warpgroup_multiply(WarpgroupProduct product, const uint32_t (&a)[4], Where where) {
  struct Lane {
    const uint32_t* a;
    bf16 (*rows)[kDepth];
  } mine{a, product.rows};
  // The fragments of a row are those of four lanes.
  collective(
      ~0u, kOp, &mine,
      [](void* const* lanes, uint32_t) MOERL_SIMT_NO_TSAN {
        for (int l = 0; l < 32; ++l)
          for (int quad = 0; quad < 4; ++quad)
            for (int i = 0; i < 4; ++i) {
              const uint32_t pair = static_cast<const Lane*>(lanes[l / 4 * 4 + quad])->a[i];
              bf16* to = static_cast<Lane*>(lanes[l])->rows[i % 2] + i / 2 * 8 + 2 * quad;
              to[0].bits = static_cast<uint16_t>(pair);
              to[1].bits = static_cast<uint16_t>(pair >> 16);
            }
      },
      false, where);
  product.a_is_in_registers = true;
  warpgroup_multiply(product, where);
}

void warpgroup_fence() { set_fenced(thread_rank(), true); }
void warpgroup_commit() {
  set_fenced(thread_rank(), false);
  products.commit();
}
void warpgroup_wait(unsigned groups) { products.wait(groups, multiply); }
void reset_warpgroup_products() {
  products.forget();
  for (Asked& warpgroup : asked) warpgroup.begin();
}

void check_no_warpgroup_products() {
  set_fenced(thread_rank(), false);
  if (!products.is_empty())
    fail(kOp, "the thread returns with products that it never waited for", Where::current());
  if (thread_rank() % 32 == 0 && !asked[thread_rank() / 128].end())
    fail(kOp, "a warp has asked for fewer products than others of its warpgroup", Where::current());
}

}  // namespace moerl::simt
