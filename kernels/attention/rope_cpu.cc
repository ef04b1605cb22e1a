#include "kernels/attention/rope_impl.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/lanes.h"

namespace moerl::kernels {
namespace {

/// Rotates up to sixteen pairs. Written on vectors: GCC 12 fuses the scalar form of a complex
/// product into multiply-add-subtract, contraction switched off or not.
template <typename T>
MOERL_INLINE void rotate_pairs(T* x, const float* cos_sin, int64_t pairs, float sign) {
  float both[2 * kLanes], even[kLanes] = {}, odd[kLanes] = {}, c[kLanes] = {}, s[kLanes] = {};
  for_each_lanes(2 * pairs, [&](int64_t i, int64_t n)
                                MOERL_INLINE_LAMBDA { store_n(both + i, load_n(x + i, n), n); });
  for (int64_t j = 0; j < pairs; ++j) {
    even[j] = both[2 * j];
    odd[j] = both[2 * j + 1];
    c[j] = cos_sin[2 * j];
    s[j] = cos_sin[2 * j + 1];
  }
  const F32x16 x0 = load(even), x1 = load(odd), vc = load(c), vs = load(s) * set1(sign);
  store(even, x0 * vc - x1 * vs);
  store(odd, x0 * vs + x1 * vc);
  for (int64_t j = 0; j < pairs; ++j) {
    both[2 * j] = even[j];
    both[2 * j + 1] = odd[j];
  }
  for_each_lanes(2 * pairs, [&](int64_t i, int64_t n)
                                MOERL_INLINE_LAMBDA { store_n(x + i, load_n(both + i, n), n); });
}

template <typename T>
void rotate_head(T* x, const float* cos_sin, int64_t dim, float sign) {
  int64_t j = 0;
  for (; j + 2 * kLanes <= dim; j += 2 * kLanes) rotate_pairs(x + j, cos_sin + j, kLanes, sign);
  if (j < dim) rotate_pairs(x + j, cos_sin + j, (dim - j) / 2, sign);
}

template <typename T>
void rotate_rows(const RopeArgs& args, float sign, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* cos_sin = args.table + args.positions[t] * args.dim;
    T* row = static_cast<T*>(args.x) + t * args.num_heads * args.width + args.first;
    for (int64_t head = 0; head < args.num_heads; ++head)
      rotate_head(row + head * args.width, cos_sin, args.dim, sign);
  }
}

}  // namespace

template <>
void RopeCpu<kIsa>::rotate(const RopeArgs& args, bool inverse, int64_t begin, int64_t end) {
  const float sign = inverse ? -1.0f : 1.0f;
  if (args.is_bf16)
    rotate_rows<bf16>(args, sign, begin, end);
  else
    rotate_rows<float>(args, sign, begin, end);
}

}  // namespace moerl::kernels
