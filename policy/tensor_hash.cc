#include "policy/tensor_hash.h"

#include <bit>
#include <cstring>

#include "common/rng.h"

namespace moerl {
namespace {

static_assert(std::endian::native == std::endian::little, "weights travel as little-endian values");

constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;
constexpr int64_t kLanes = 4;  // independent chains hide the multiplier's latency

uint64_t absorb(uint64_t state, uint64_t word) {
  return std::rotl((state ^ word) * kMultiplier, 29);
}

}  // namespace

uint64_t tensor_hash(std::string_view name, const Tensor& tensor) {
  const Tensor on_host = tensor.to(Device::kCpu);
  const auto* values = reinterpret_cast<const std::byte*>(on_host.data<float>());
  uint64_t lanes[kLanes] = {1, 2, 3, 4};
  const int64_t words = tensor.bytes() / 8, whole = words / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    uint64_t word[kLanes];
    std::memcpy(word, values + i * 8, sizeof(word));
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = absorb(lanes[lane], word[lane]);
  }
  for (int64_t at = whole * 8; at < tensor.bytes(); at += 4) {
    uint32_t word;
    std::memcpy(&word, values + at, sizeof(word));
    lanes[0] = absorb(lanes[0], word);
  }
  uint64_t hash = hash64(name);
  for (int64_t dim : tensor.shape().dims()) hash = mix64(absorb(hash, static_cast<uint64_t>(dim)));
  for (uint64_t lane : lanes) hash = mix64(absorb(hash, lane));
  return hash;
}

uint64_t combine_weights_hash(uint64_t combined, uint64_t tensor_hash) {
  return combined + mix64(tensor_hash);
}

}  // namespace moerl
