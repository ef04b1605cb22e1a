#include "kernels/gemm/linear_groups.h"

namespace moerl::kernels {

GroupOffsets GroupOffsets::even(size_t groups, int64_t rows_each) {
  GroupOffsets offsets{List<int64_t>()};
  for (size_t g = 0; g <= groups; ++g) offsets.even_.push_back(static_cast<int64_t>(g) * rows_each);
  return offsets;
}

void WeightList::upload(ExecContext& ctx, Product product) const {
  std::vector<const void*> addresses;
  for (const PackedWeight* weight : weights_)
    addresses.push_back(weight->image(product).raw(Device::kCuda));
  if (weights_.front()->is_fp8)
    for (const PackedWeight* weight : weights_)
      addresses.push_back(weight->scales(product).raw(Device::kCuda));
  Table& table = tables_[static_cast<size_t>(product)];
  if (addresses == table.addresses) return;
  table.on_device = kernels::upload(ctx, std::span<const void* const>(addresses));
  table.addresses = std::move(addresses);
}

void WeightList::upload(ExecContext& ctx) const {
  if (ctx.device() == Device::kCpu || weights_.empty()) return;
  upload(ctx, Product::kForward);
  if (weights_.front()->dgrad.defined()) upload(ctx, Product::kDgrad);
}

const void* const* WeightList::data(ExecContext& ctx, Product product) const {
  const Table& table = tables_[static_cast<size_t>(product)];
  if (!table.on_device.defined()) upload(ctx, product);
  return static_cast<const void* const*>(table.on_device.raw(Device::kCuda));
}

LinearGroups groups_on_device(ExecContext& ctx, const GroupOffsets& offsets) {
  if (offsets.groups() == 1) return {};
  LinearGroups groups{.count = static_cast<int64_t>(offsets.groups())};
  if (offsets.is_even())
    groups.rows_each = offsets.host()[1];
  else
    groups.offsets = offsets.data(ctx);
  return groups;
}

}  // namespace moerl::kernels
