#include "policy/tensor_hash.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "common/rng.h"

namespace moerl {
namespace {

static_assert(std::endian::native == std::endian::little, "weights travel as little-endian values");

constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;
constexpr int64_t kLanes = 4;  // independent chains hide the multiplier's latency

uint64_t absorb(uint64_t state, uint64_t word) {
  return std::rotl((state ^ word) * kMultiplier, 29);
}

class TensorHasher {
 public:
  /// The next elements; their number is a multiple of 2 kLanes, but for the last time.
  void absorb_next(const float* elements, int64_t count) {
    const auto* values = reinterpret_cast<const std::byte*>(elements);
    const int64_t bytes = count * 4, whole = bytes / 8 / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
      uint64_t word[kLanes];
      std::memcpy(word, values + i * 8, sizeof(word));
      for (int64_t lane = 0; lane < kLanes; ++lane) lanes_[lane] = absorb(lanes_[lane], word[lane]);
    }
    for (int64_t at = whole * 8; at < bytes; at += 4) {
      uint32_t word;
      std::memcpy(&word, values + at, sizeof(word));
      lanes_[0] = absorb(lanes_[0], word);
    }
  }
  uint64_t finish(std::string_view name, const Shape& shape) const {
    uint64_t hash = hash64(name);
    for (int64_t dim : shape.dims()) hash = mix64(absorb(hash, static_cast<uint64_t>(dim)));
    for (uint64_t lane : lanes_) hash = mix64(absorb(hash, lane));
    return hash;
  }

 private:
  uint64_t lanes_[kLanes] = {1, 2, 3, 4};
};

}  // namespace

uint64_t tensor_hash(std::string_view name, const Tensor& tensor) {
  const Tensor on_host = tensor.to(Device::kCpu);
  TensorHasher hasher;
  hasher.absorb_next(on_host.data<float>(), on_host.numel());
  return hasher.finish(name, tensor.shape());
}

uint64_t tensor_hash(std::string_view name, const Shape& shape,
                     const std::function<void(int64_t begin, int64_t end, float* out)>& read) {
  constexpr int64_t kPiece = 1 << 14;
  static_assert(kPiece % (2 * kLanes) == 0);
  std::vector<float> piece(kPiece);
  TensorHasher hasher;
  for (int64_t begin = 0; begin < shape.numel(); begin += kPiece) {
    const int64_t end = std::min(shape.numel(), begin + kPiece);
    read(begin, end, piece.data());
    hasher.absorb_next(piece.data(), end - begin);
  }
  return hasher.finish(name, shape);
}

uint64_t combine_weights_hash(uint64_t combined, uint64_t tensor_hash) {
  return combined + mix64(tensor_hash);
}

}  // namespace moerl
