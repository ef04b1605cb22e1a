#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/transformer.h"

namespace moerl {

/// A whole model's worth of weights in the making, checked piece by piece as it arrives.
class WeightsStaging : private WeightSource {
 public:
  /// One piece of a tensor; fields as in TensorChunk of weights.proto.
  struct Chunk {
    const std::string& name;
    Shape shape;
    int64_t offset = 0;
    const std::string& data;
    uint64_t hash = 0;
  };

  explicit WeightsStaging(const Transformer& model);
  /// Gives the memory back to the system.
  ~WeightsStaging() override;
  WeightsStaging(const WeightsStaging&) = delete;
  WeightsStaging& operator=(const WeightsStaging&) = delete;

  /// @throws std::invalid_argument naming the tensor: unknown, of another shape, not the piece that
  ///   comes next, or complete with another hash than announced.
  void add(const Chunk& chunk);
  /// @throws std::invalid_argument if a tensor is missing or incomplete, or the combined hash is
  ///   another one.
  void check_complete(uint64_t weights_hash) const;
  /// Loads the model with the weights.
  void load_into(ExecContext& ctx, Transformer& model);

 private:
  void read(const Parameter& parameter, int64_t begin, int64_t end, DType dtype,
            void* out) override;

  struct Staged {
    const Parameter* parameter = nullptr;
    Tensor value;          ///< lies in memory_
    int64_t received = 0;  ///< bytes
    uint64_t hash = 0;
  };
  Tensor memory_;                ///< of all tensors: as a whole it can be given back
  std::vector<Staged> tensors_;  ///< in the order of model.parameters()
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace moerl
