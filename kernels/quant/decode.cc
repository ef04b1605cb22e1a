#include "kernels/quant/decode.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/quant/decode_impl.h"

namespace moerl::kernels {

void decode_floats(Isa isa, StoredFloat format, const std::byte* data, int64_t count, float scale,
                   float* out) {
  dispatch_isa(isa,
               [&]<Isa level>() { DecodeCpu<level>::decode(format, data, count, scale, out); });
}

}  // namespace moerl::kernels
