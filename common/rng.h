#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace moerl {

/// One block of Philox4x32-10: a bijection of the 128-bit counter under a 64-bit key.
/// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

/// A 64-bit finaliser (splitmix64): spreads small integers over all bits.
constexpr uint64_t mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

/// FNV-1a, 64 bit: a hash that is the same on every machine and in every run.
constexpr uint64_t hash64(std::string_view text) {
  uint64_t h = 0xCBF29CE484222325;
  for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return h;
}

/// A uniform number in [0, 1) with 24 random bits.
constexpr float uniform_float(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

/// The uniform number of [0, 1) that draws the token at `position` of sample `sample_index` of
/// prompt `prompt_id`. It depends on nothing else, so neither batching nor restarts change it.
constexpr float sampling_uniform(uint64_t seed, uint64_t prompt_id, uint32_t sample_index,
                                 uint32_t position) {
  const uint64_t key = mix64(seed ^ mix64(prompt_id));
  return uniform_float(
      philox4x32({position, sample_index, static_cast<uint32_t>(prompt_id),
                  static_cast<uint32_t>(prompt_id >> 32)},
                 {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)})[0]);
}

/// A counter-based stream of random numbers: two streams with the same (seed, stream) are equal.
class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0)
      : key_{static_cast<uint32_t>(mix64(seed)), static_cast<uint32_t>(mix64(seed) >> 32)},
        stream_(stream) {}

  uint32_t next_u32() {
    const uint64_t block = drawn_ / 4;
    if (drawn_ % 4 == 0) {
      block_ = philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                           static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
                          key_);
    }
    return block_[drawn_++ % 4];
  }
  uint64_t next_u64() {
    const uint64_t high = next_u32();
    return high << 32 | next_u32();
  }
  /// Uniform in [0, n), without bias. REQUIRES: n > 0.
  uint32_t below(uint32_t n) {
    uint64_t product = uint64_t{next_u32()} * n;
    if (static_cast<uint32_t>(product) < n) {
      const uint32_t threshold = (0u - n) % n;
      while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next_u32()} * n;
    }
    return static_cast<uint32_t>(product >> 32);
  }
  /// Uniform in [0, 1) with 53 random bits.
  double uniform() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }
  /// Standard normal (Box-Muller, one of the pair).
  double normal();

 private:
  std::array<uint32_t, 2> key_;
  uint64_t stream_;
  uint64_t drawn_ = 0;
  std::array<uint32_t, 4> block_{};
};

}  // namespace moerl
