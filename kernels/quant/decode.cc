#include "kernels/quant/decode.h"

#include "common/check.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/quant/decode_impl.h"

namespace moerl::kernels {

void decode_floats(Isa isa, StoredFloat format, const std::byte* data, int64_t count, float scale,
                   DType dtype, void* out) {
  check(dtype == DType::kF32 || dtype == DType::kBF16, "decode_floats: dtype is ",
        dtype_name(dtype), ", expected f32 or bf16");
  dispatch_isa(
      isa, [&]<Isa level>() { DecodeCpu<level>::decode(format, data, count, scale, dtype, out); });
}

}  // namespace moerl::kernels
