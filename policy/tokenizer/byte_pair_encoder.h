#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace moerl::policy {

/// Merges the bytes of a piece into tokens: again and again the adjacent pair of the lowest rank,
/// the leftmost of equals, until no pair is in the merge list (Sennrich et al. 2016,
/// arXiv:1508.07909). Immutable once built, then thread safe.
class BytePairEncoder {
 public:
  struct Merge {
    int32_t left, right, result;
  };
  /// @param byte_ids  the token of each byte, -1 for a byte that valid UTF-8 never holds.
  /// @param merges  in rank order; of two entries with the same pair the later one counts.
  BytePairEncoder(const std::array<int32_t, 256>& byte_ids, const std::vector<Merge>& merges);

  /// Appends the tokens of `piece`. Time is O(n log n), and for the usual short piece a few scans.
  void encode(std::string_view piece, std::vector<int32_t>& tokens) const;

 private:
  struct Slot {
    uint64_t pair;
    int32_t rank, result;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static constexpr size_t kShortPiece = 40;

  const Slot* find(int32_t left, int32_t right) const;
  void encode_short(std::string_view piece, std::vector<int32_t>& tokens) const;
  void encode_long(std::string_view piece, std::vector<int32_t>& tokens) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<Slot> slots_;  // open addressing, a power of two
  int shift_ = 0;
};

}  // namespace moerl::policy
