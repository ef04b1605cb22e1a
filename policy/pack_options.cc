#include "policy/pack_options.h"

namespace moerl {

MasterScope::MasterScope(Tensor& master, const Tensor* scratch) {
  if (master.has_memory()) return;
  check(scratch != nullptr, "pack: the masters of this model were not kept");
  master.attach(*scratch);
  lent_ = &master;
}

// The delegated constructor makes the object whole, so that its end is reached if `fill` throws.
MasterScope::MasterScope(Tensor& master, std::span<Parameter> parts, const PackOptions& options)
    : MasterScope(master, options.scratch) {
  if (lent_ == nullptr) return;
  for (Parameter& part : parts)
    if (part.is_matrix()) (*options.fill)(part);
}

MasterScope::~MasterScope() {
  if (lent_ != nullptr) lent_->detach();
}

}  // namespace moerl
