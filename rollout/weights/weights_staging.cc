#include "rollout/weights/weights_staging.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "kernels/quant/decode.h"
#include "policy/tensor_hash.h"

namespace moerl {

WeightsStaging::WeightsStaging(const Transformer& model) {
  int64_t numel = 0;
  for (const Parameter* parameter : model.parameters()) numel += parameter->value.numel();
  memory_ = Tensor::empty({numel}, DType::kF32);
  int64_t begin = 0;
  for (const Parameter* parameter : model.parameters()) {
    index_.emplace(parameter->name, tensors_.size());
    const int64_t end = begin + parameter->value.numel();
    tensors_.push_back(
        {.parameter = parameter, .value = memory_.rows(begin, end).view(parameter->value.shape())});
    begin = end;
  }
}

WeightsStaging::~WeightsStaging() {
  tensors_.clear();
  memory_ = Tensor();
  Tensor::release_cache();
}

void WeightsStaging::add(const Chunk& chunk) {
  const auto found = index_.find(chunk.name);
  check(found != index_.end(), "tensor ", chunk.name, " is unknown to the model");
  Staged& staged = tensors_[found->second];
  const Tensor& own = staged.parameter->value;
  check(chunk.shape == own.shape(), "tensor ", chunk.name, " has shape ", chunk.shape,
        ", expected ", own.shape());
  check(chunk.offset == staged.received, "tensor ", chunk.name, ": chunk starts at byte ",
        chunk.offset, ", expected ", staged.received);
  const auto size = static_cast<int64_t>(chunk.data.size());
  check(size >= 1 && size <= own.bytes() - staged.received, "tensor ", chunk.name, ": chunk has ",
        size, " bytes, expected 1 to ", own.bytes() - staged.received);
  if (staged.received == 0) staged.hash = chunk.hash;
  check(chunk.hash == staged.hash, "tensor ", chunk.name, ": hash is ", chunk.hash,
        ", earlier chunks had ", staged.hash);
  std::memcpy(static_cast<char*>(staged.value.raw()) + staged.received, chunk.data.data(),
              chunk.data.size());
  staged.received += size;
  if (staged.received == own.bytes()) {
    const uint64_t hash = tensor_hash(chunk.name, staged.value);
    check(hash == staged.hash, "tensor ", chunk.name, " arrived with hash ", hash, ", expected ",
          staged.hash);
  }
}

void WeightsStaging::check_complete(uint64_t weights_hash) const {
  uint64_t combined = 0;
  for (const Staged& staged : tensors_) {
    const int64_t bytes = staged.parameter->value.bytes();
    check(staged.received == bytes, "tensor ", staged.parameter->name, " is ",
          staged.received == 0 ? "missing" : "incomplete", ": got ", staged.received,
          " bytes, expected ", bytes);
    combined = combine_weights_hash(combined, staged.hash);
  }
  check(combined == weights_hash, "weights_hash is ", weights_hash, ", the tensors make ",
        combined);
}

void WeightsStaging::load_into(ExecContext& ctx, Transformer& model) { model.load(ctx, *this); }

void WeightsStaging::read(const Parameter& parameter, int64_t begin, int64_t end, DType dtype,
                          void* out) {
  const Tensor staged = tensors_[index_.at(parameter.name)].value.view({parameter.value.numel()});
  const Tensor part = staged.rows(begin, end);
  kernels::decode_floats(detect_isa(), kernels::StoredFloat::kF32,
                         static_cast<const std::byte*>(part.raw()), end - begin, 1, dtype, out);
}

}  // namespace moerl
