#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "policy/safetensors.h"

namespace moerl::policy {

/// Collects tensors and writes them. The bytes are those of the reference writer: larger types
/// first, then by name, the header padded with spaces to a multiple of 8; the order of add() does
/// not matter.
class SafetensorsWriter {
 public:
  /// Makes the bytes of one tensor when they are about to be written; they must stay valid until
  /// the next tensor is asked for. Tensors are asked for once each, in name order.
  using Source = std::function<std::span<const std::byte>()>;

  /// @throws std::invalid_argument if the name is taken or reserved, or the type is none of F32,
  ///   BF16 and F8_E4M3.
  void add(std::string name, SafetensorsDtype dtype, Shape shape, Source source);
  /// @param data  the values, which stay with the caller and must live until written; may be null
  ///   if there are none.
  void add(std::string name, SafetensorsDtype dtype, Shape shape, const void* data);

  /// Replaces the file atomically: written beside it, fsynced, renamed. @throws IoError.
  void write(const std::filesystem::path& path) const;
  /// Writes a model directory: `model.safetensors`, or `model-00001-of-0000N.safetensors` … and
  /// `model.safetensors.index.json`, tensors in name order, a new shard where the next tensor would
  /// make it larger than `max_shard_bytes` (data only; a larger tensor has a shard to itself).
  /// Weight files of an earlier write are removed. Each file is atomic, the set of them is not.
  /// @throws IoError; std::invalid_argument if max_shard_bytes is not positive.
  void write_sharded(const std::filesystem::path& directory, int64_t max_shard_bytes) const;

 private:
  struct Item {
    SafetensorsDtype dtype;
    Shape shape;
    Source source;
    int64_t bytes;
  };
  using Items = std::map<std::string, Item>;
  static void write_items(const std::filesystem::path& path,
                          const std::vector<const Items::value_type*>& items);

  Items items_;
};

}  // namespace moerl::policy
