#include "kernels/attention/rope_impl.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"

namespace moerl::kernels {
namespace {

/// Sixteen pairs (a, b), turned in place. Written on vectors: GCC 12 fuses the scalar form of a
/// complex product into multiply-add-subtract, contraction switched off or not.
MOERL_INLINE void turn(F32x16& a, F32x16& b, F32x16 cosine, F32x16 sine) {
  const F32x16 turned = a * cosine - b * sine;
  b = a * sine + b * cosine;
  a = turned;
}

/// The even and the odd ones of 2 n <= 32 neighbours, zeros behind them.
MOERL_INLINE void split_neighbours(const float* both, int64_t n, F32x16& even, F32x16& odd) {
  float e[kLanes] = {}, o[kLanes] = {};
  for (int64_t j = 0; j < n; ++j) {
    e[j] = both[2 * j];
    o[j] = both[2 * j + 1];
  }
  even = load(e);
  odd = load(o);
}

/// Rotates up to sixteen pairs of neighbours.
template <typename T>
MOERL_INLINE void rotate_neighbours(T* x, const float* cos_sin, int64_t pairs, F32x16 sign) {
  float both[2 * kLanes], even[kLanes], odd[kLanes];
  for_each_lanes(2 * pairs, [&](int64_t i, int64_t n)
                                MOERL_INLINE_LAMBDA { store_n(both + i, load_n(x + i, n), n); });
  F32x16 a, b, cosine, sine;
  split_neighbours(both, pairs, a, b);
  split_neighbours(cos_sin, pairs, cosine, sine);
  turn(a, b, cosine, sine * sign);
  store(even, a);
  store(odd, b);
  for (int64_t j = 0; j < pairs; ++j) {
    both[2 * j] = even[j];
    both[2 * j + 1] = odd[j];
  }
  for_each_lanes(2 * pairs, [&](int64_t i, int64_t n)
                                MOERL_INLINE_LAMBDA { store_n(x + i, load_n(both + i, n), n); });
}

/// Rotates up to sixteen pairs whose second members lie `half` behind the first.
template <typename T>
MOERL_INLINE void rotate_halves(T* x, int64_t half, const float* cos_sin, int64_t pairs,
                                F32x16 sign) {
  F32x16 a = load_n(x, pairs), b = load_n(x + half, pairs), cosine, sine;
  split_neighbours(cos_sin, pairs, cosine, sine);
  turn(a, b, cosine, sine * sign);
  store_n(x, a, pairs);
  store_n(x + half, b, pairs);
}

template <typename T>
void rotate_head(T* x, const float* cos_sin, int64_t dim, RopePairing pairing, F32x16 sign) {
  for_each_lanes(dim / 2, [&](int64_t j, int64_t n) MOERL_INLINE_LAMBDA {
    if (pairing == RopePairing::kInterleaved)
      rotate_neighbours(x + 2 * j, cos_sin + 2 * j, n, sign);
    else
      rotate_halves(x + j, dim / 2, cos_sin + 2 * j, n, sign);
  });
}

template <typename T>
void rotate_rows(const RopeArgs& args, F32x16 sign, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* cos_sin = args.table + args.positions[t] * args.dim;
    T* row = static_cast<T*>(args.x) + t * args.num_heads * args.width + args.first;
    for (int64_t head = 0; head < args.num_heads; ++head)
      rotate_head(row + head * args.width, cos_sin, args.dim, args.pairing, sign);
  }
}

}  // namespace

template <>
void RopeCpu<kIsa>::rotate(const RopeArgs& args, bool inverse, int64_t begin, int64_t end) {
  const F32x16 sign = set1(inverse ? -1.0f : 1.0f);
  if (args.is_bf16)
    rotate_rows<bf16>(args, sign, begin, end);
  else
    rotate_rows<float>(args, sign, begin, end);
}

}  // namespace moerl::kernels
