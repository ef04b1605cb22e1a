// The safetensors header: any bytes are understood or refused with an IoError, and what is
// understood can be read to its last byte.
#include <cstdlib>
#include <vector>

#include "common/error.h"
#include "policy/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moerl;
  try {
    const auto contents = policy::parse_safetensors("input", std::as_bytes(std::span(data, size)));
    for (const auto& [name, view] : contents.tensors) {
      if (view.data.size() * 8 !=
          static_cast<size_t>(view.shape.numel() * policy::dtype_bits(view.dtype)))
        std::abort();
      if (view.dtype == policy::SafetensorsDtype::kF32) {
        std::vector<float> values(static_cast<size_t>(view.shape.numel()));
        policy::convert_to_f32(view, values.data());
      }
    }
  } catch (const IoError&) {
  }
  return 0;
}
