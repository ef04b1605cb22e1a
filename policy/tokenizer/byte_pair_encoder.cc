#include "policy/tokenizer/byte_pair_encoder.h"

#include <bit>
#include <limits>
#include <queue>

#include "common/check.h"

namespace moerl::policy {
namespace {

constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();

uint64_t pack(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

// Fibonacci hashing; the best mixed bits are the top ones.
size_t hash_pair(uint64_t pair, int shift) {
  pair ^= pair >> 29;
  return static_cast<size_t>((pair * 0x9E3779B97F4A7C15u) >> shift);
}

/// A merge that may be made at `at`, valid as long as the symbols there still form the pair.
struct Candidate {
  int32_t rank, at, left, right, result;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

struct Symbol {
  int32_t id, previous, next;
};

}  // namespace

BytePairEncoder::BytePairEncoder(const std::array<int32_t, 256>& byte_ids,
                                 const std::vector<Merge>& merges)
    : byte_ids_(byte_ids) {
  const size_t size = std::bit_ceil(merges.size() * 2 + 2);
  shift_ = 64 - std::countr_zero(size);
  slots_.assign(size, {kEmpty, kNoRank, -1});
  int32_t rank = 0;
  for (const Merge& merge : merges) {
    const uint64_t pair = pack(merge.left, merge.right);
    size_t i = hash_pair(pair, shift_);
    while (slots_[i].pair != kEmpty && slots_[i].pair != pair) i = (i + 1) & (size - 1);
    slots_[i] = {pair, rank++, merge.result};
  }
}

const BytePairEncoder::Slot* BytePairEncoder::find(int32_t left, int32_t right) const {
  const uint64_t pair = pack(left, right);
  for (size_t i = hash_pair(pair, shift_);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].pair == pair) return &slots_[i];
    if (slots_[i].pair == kEmpty) return nullptr;
  }
}

void BytePairEncoder::encode(std::string_view piece, std::vector<int32_t>& tokens) const {
  check(piece.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()),
        "byte pair encoder: a piece has ", piece.size(), " bytes, expected fewer than 2^31");
  if (piece.size() <= kShortPiece)
    encode_short(piece, tokens);
  else
    encode_long(piece, tokens);
}

void BytePairEncoder::encode_short(std::string_view piece, std::vector<int32_t>& tokens) const {
  int32_t ids[kShortPiece];
  const Slot* merges[kShortPiece];  // merges[i]: of ids[i] and ids[i + 1]
  size_t n = piece.size();
  for (size_t i = 0; i < n; ++i) ids[i] = byte_ids_[static_cast<uint8_t>(piece[i])];
  for (size_t i = 0; i + 1 < n; ++i) merges[i] = find(ids[i], ids[i + 1]);

  while (n > 1) {
    size_t best = n;
    int32_t best_rank = kNoRank;
    for (size_t i = 0; i + 1 < n; ++i) {
      if (merges[i] && merges[i]->rank < best_rank) {
        best = i;
        best_rank = merges[i]->rank;
      }
    }
    if (best == n) break;
    ids[best] = merges[best]->result;
    for (size_t i = best + 1; i + 1 < n; ++i) {
      ids[i] = ids[i + 1];
      merges[i] = merges[i + 1];
    }
    --n;
    if (best > 0) merges[best - 1] = find(ids[best - 1], ids[best]);
    if (best + 1 < n) merges[best] = find(ids[best], ids[best + 1]);
  }
  tokens.insert(tokens.end(), ids, ids + n);
}

void BytePairEncoder::encode_long(std::string_view piece, std::vector<int32_t>& tokens) const {
  const auto n = static_cast<int32_t>(piece.size());
  std::vector<Symbol> symbols(piece.size());
  std::vector<Candidate> storage;
  storage.reserve(piece.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue({},
                                                                               std::move(storage));
  const auto propose = [&](int32_t at) {
    if (at < 0 || symbols[static_cast<size_t>(at)].next < 0) return;
    const Symbol& left = symbols[static_cast<size_t>(at)];
    const Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (const Slot* merge = find(left.id, right.id))
      queue.push({merge->rank, at, left.id, right.id, merge->result});
  };
  for (int32_t i = 0; i < n; ++i) {
    const auto byte = static_cast<uint8_t>(piece[static_cast<size_t>(i)]);
    symbols[static_cast<size_t>(i)] = {byte_ids_[byte], i - 1, i + 1 < n ? i + 1 : -1};
  }
  for (int32_t i = 0; i + 1 < n; ++i) propose(i);

  constexpr int32_t kGone = -2;
  while (!queue.empty()) {
    const Candidate merge = queue.top();
    queue.pop();
    Symbol& left = symbols[static_cast<size_t>(merge.at)];
    if (left.id != merge.left || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != merge.right) continue;
    left.id = merge.result;
    left.next = right.next;
    right.id = kGone;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = merge.at;
    propose(left.previous);
    propose(merge.at);
  }
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next)
    tokens.push_back(symbols[static_cast<size_t>(i)].id);
}

}  // namespace moerl::policy
