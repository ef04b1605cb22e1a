#include "kernels/gemm/product_probe.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/rng.h"

namespace moerl::kernels {
namespace {

float draw(Rng& rng, const Magnitude& magnitude) {
  const uint32_t bits = rng.next_u32();
  const float sign = bits % 2 == 0 ? 1.0f : -1.0f;
  if (bits / 2 % 8 == 0) return std::ldexp(sign, magnitude.centre + magnitude.spread);
  const int above = static_cast<int>(bits / 16 % 256) * 2 * magnitude.spread / 256;
  const float fraction = static_cast<float>(bits >> 12) * 0x1p-20f;
  return std::ldexp(sign * (1.0f + fraction), magnitude.centre - magnitude.spread + above);
}

}  // namespace

void repeat_rows(const Tensor& tensor, int64_t period, int64_t end) {
  for (int64_t done = period; done < end;) {
    const int64_t more = std::min(done, end - done);
    tensor.rows(done, done + more).copy_from(tensor.rows(0, more));
    done += more;
  }
}

void randomize_rows(const Tensor& tensor, int64_t end, const Magnitude& magnitude, int mirror,
                    uint64_t stream) {
  constexpr int64_t kElements = 1 << 20;
  const int64_t width = tensor.dim(1), half = width / 2;
  const int64_t distinct = std::clamp<int64_t>(kElements / width, 1, end);
  std::vector<float> values(static_cast<size_t>(distinct * width));
  Rng rng(0, stream);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = mirror != 0 && static_cast<int64_t>(i) % width >= half
                    ? static_cast<float>(mirror) * values[i - static_cast<size_t>(half)]
                    : draw(rng, magnitude);
  Tensor rows = tensor.rows(0, distinct);
  if (tensor.dtype() == DType::kF32) {
    rows.copy_from_host(values.data());
  } else {
    std::vector<bf16> rounded(values.size());
    std::ranges::transform(values, rounded.begin(), to_bf16);
    rows.copy_from_host(rounded.data());
  }
  repeat_rows(tensor, distinct, end);
}

}  // namespace moerl::kernels
