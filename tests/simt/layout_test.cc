#include "kernels/layout/rows.h"
#include "kernels/layout/rows_impl.h"
#include "kernels/layout/runs.h"
#include "kernels/layout/runs_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

TEST(LayoutCudaTest, RowsAreGatheredAndScattered) {
  ExecContext cpu(1);
  const std::vector<int32_t> rows = {7, 0, 3};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = random_tensor({9, 37}, dtype, 1);
    Tensor some = cpu.empty({3, 37}, dtype), all = cpu.empty({9, 37}, dtype);
    gather_rows(cpu, x, rows, some);
    scatter_rows(cpu, some, rows, all);
    for_each_order([&] {
      const int64_t bytes = 37 * dtype_size(dtype);
      const OnDevice x_(x), some_(some.shape(), dtype), all_(cpu.zeros({9, 37}, dtype));
      const ArrayOnDevice<int32_t> rows_(rows);
      cuda_ops<RowsCuda>().gather(x_.raw(), rows_.data(), 3, bytes, some_.raw());
      EXPECT_BITS(some_, some);
      cuda_ops<RowsCuda>().scatter(some_.raw(), rows_.data(), 3, bytes, all_.raw());
      EXPECT_BITS(all_, all);
    });
  }
}

TEST(LayoutCudaTest, RunsAreCopiedAndSummed) {
  ExecContext cpu(1);
  const RunExtent extent{40, 3, 3};
  const HeadRuns from{2, 21, 7}, to{1, 4, 160};
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = random_tensor({40, 21}, dtype, 1),
                 before = random_tensor({3, 40, 4}, dtype, 2);
    Tensor copied = before.clone(), sum = cpu.empty({40, 3}, dtype);
    copy_runs(cpu, extent, x, from, copied, to);
    sum_head_runs(cpu, extent, x, from, sum);
    for_each_order([&] {
      const OnDevice x_(x), copied_(before), sum_(sum.shape(), dtype);
      cuda_ops<RunsCuda>().copy(dtype, extent, x_.raw(), from, copied_.raw(), to);
      EXPECT_BITS(copied_, copied);
      cuda_ops<RunsCuda>().sum(dtype, extent, x_.raw(), from, sum_.raw());
      EXPECT_BITS(sum_, sum);
    });
  }
}

}  // namespace
}  // namespace moerl::kernels
