#pragma once
#include <functional>
#include <span>

#include "policy/parameter.h"

namespace moerl {

/// Writes every element of a parameter's master.
using FillMaster = std::function<void(Parameter&)>;

/// How working images are made from the masters.
struct PackOptions {
  DType dtype = DType::kBF16;  ///< the working type
  bool with_dgrad = true;      ///< also what backward needs
  /// Of a model that keeps no masters: how to get those of one matrix, and where to.
  const FillMaster* fill = nullptr;
  const Tensor* scratch = nullptr;  ///< fp32, as large as the largest master
};

/// The master of a matrix while images are made from it. Where the model keeps no masters, it is
/// filled in the scratch memory, and gone at the end of the scope.
class MasterScope {
 public:
  /// @param master  fp32, with or without memory.
  /// @param parts  the parameters that are its row ranges; vectors among them are passed over.
  MasterScope(Tensor& master, std::span<Parameter> parts, const PackOptions& options);
  ~MasterScope();
  MasterScope(const MasterScope&) = delete;
  MasterScope& operator=(const MasterScope&) = delete;

 private:
  MasterScope(Tensor& master, const Tensor* scratch);
  Tensor* lent_ = nullptr;
};

}  // namespace moerl
