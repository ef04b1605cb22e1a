#include "kernels/attention/rope_impl.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.h"

namespace moerl::kernels::cuda {
namespace {

/// A thread a pair.
template <typename T>
void rotate_as(const RopeArgs& args, float sign, int64_t rows) {
  const int64_t pairs = args.dim / 2;
  launch_each("rope", rows * args.num_heads * pairs, [=] __device__(int64_t i) {
    const int64_t pair = i % pairs, head = i / pairs % args.num_heads,
                  t = i / pairs / args.num_heads;
    const float* cos_sin = args.table + args.positions[t] * args.dim + 2 * pair;
    const float cosine = cos_sin[0], sine = cos_sin[1] * sign;
    T* x = static_cast<T*>(args.x) + (t * args.num_heads + head) * args.width + args.first;
    const bool interleaved = args.pairing == RopePairing::kInterleaved;
    T* first = x + (interleaved ? 2 * pair : pair);
    T* second = interleaved ? first + 1 : first + pairs;
    const float a = load(first), b = load(second);
    store(first, a * cosine - b * sine);
    store(second, a * sine + b * cosine);
  });
}

void rotate(const RopeArgs& args, bool inverse, int64_t rows) {
  const float sign = inverse ? -1.0f : 1.0f;
  if (args.is_bf16)
    rotate_as<bf16>(args, sign, rows);
  else
    rotate_as<float>(args, sign, rows);
}

const RegisterCudaOps<RopeCuda> registered({rotate});

}  // namespace
}  // namespace moerl::kernels::cuda
