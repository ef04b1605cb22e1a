// The AMX kernels run here on tiles of plain code, with the arithmetic that the hardware was
// measured to have; their blocking, tails and packing are the ones of the AMX build.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "common/thread_pool.h"
#include "kernels/gemm/linear.h"
#include "kernels/gemm/linear_amx_kernel.h"
#include "kernels/gemm/linear_ref.h"
#include "tests/testing/random_tensors.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::same_bits;

/// The tile registers of this thread. Touching what the configuration leaves out, as the hardware
/// would, changes nothing in memory; products use configured rows only.
struct SoftwareTiles {
  static void configure(const TileConfig& config) {
    ASSERT_EQ(config.palette, 1);
    config_ = config;
    for (auto& tile : tiles_) std::memset(tile, 0, sizeof(tile));
    is_configured_ = true;
  }
  static void release() { is_configured_ = false; }
  template <int T>
  static void zero() {
    std::memset(tiles_[T], 0, sizeof(tiles_[T]));
  }
  template <int T>
  static void load(const void* from, int64_t row_bytes) {
    EXPECT_TRUE(is_configured_);
    zero<T>();
    for (int r = 0; r < config_.rows[T]; ++r)
      std::memcpy(tiles_[T][r], static_cast<const char*>(from) + r * row_bytes,
                  config_.column_bytes[T]);
  }
  template <int T>
  static void load_once(const void* from, int64_t row_bytes) {
    load<T>(from, row_bytes);
  }
  template <int C>
  static void store(void* to, int64_t row_bytes) {
    EXPECT_TRUE(is_configured_);
    for (int r = 0; r < config_.rows[C]; ++r)
      std::memcpy(static_cast<char*>(to) + r * row_bytes, tiles_[C][r], config_.column_bytes[C]);
  }
  /// TDPBF16PS: over 16 pairs a chain of the even and one of the odd elements, their sum to C.
  template <int C, int A, int B>
  static void multiply() {
    EXPECT_EQ(config_.rows[C], config_.rows[A]);
    for (int m = 0; m < config_.rows[C]; ++m)
      for (int n = 0; n < 16; ++n) {
        float chain[2] = {0.0f, 0.0f};
        for (int pair = 0; pair < 16; ++pair)
          for (int i = 0; i < 2; ++i)
            chain[i] = ref::fma_flushed(element<A>(m, 2 * pair + i), element<B>(pair, 2 * n + i),
                                        chain[i]);
        float& c = tiles_[C][m][n];
        c = ref::add_flushed(c, ref::add_flushed(chain[0], chain[1]));
      }
  }

 private:
  template <int T>
  static float element(int row, int column) {
    bf16 value;
    std::memcpy(&value, reinterpret_cast<const char*>(tiles_[T][row]) + 2 * column, 2);
    return to_float(value);
  }
  static inline TileConfig config_;
  static inline bool is_configured_ = false;
  static inline float tiles_[8][16][16];
};

struct Extents {
  int64_t rows, columns, depth;
};

// Rows around one and two tiles; depths within and beyond a pass, aligned and not, and with rows of
// 2 KiB; columns within and beyond a pass, with and without a narrow last block.
const Extents kExtents[] = {{1, 1, 1},     {1, 32, 32},    {15, 33, 64},   {16, 64, 96},
                            {17, 100, 40}, {31, 31, 576},  {32, 160, 544}, {33, 96, 1024},
                            {70, 65, 100}, {49, 40, 1056}, {289, 64, 64},  {5, 2200, 33},
                            {3, 2112, 512}};

ProductTask product_task(const Tensor& x, const Tensor& image, Tensor& y, bool accumulate) {
  return {.dtype = DType::kBF16,
          .x = x.raw(),
          .image = image.raw(),
          .y = y.raw(),
          .y_dtype = y.dtype(),
          .accumulate = accumulate,
          .rows = x.dim(0),
          .depth = x.dim(1),
          .columns = y.dim(1),
          .column_begin = 0,
          .column_end = y.dim(1)};
}

class AmxKernelTest : public ::testing::Test {
 protected:
  Tensor scratch(int64_t depth) { return Tensor::empty({task_scratch(depth)}, DType::kF32); }
  ExecContext portable_{1, Isa::kPortable};
};

TEST_F(AmxKernelTest, ProductHasTheBitsOfThePortableLevel) {
  for (const Extents& e : kExtents)
    for (DType output : {DType::kF32, DType::kBF16})
      for (bool accumulate : {false, true}) {
        const Tensor x = random_tensor({e.rows, e.depth}, DType::kBF16, 1);
        PackedWeight weight;
        // dgrad accumulates into both types; its image of W^T is forward's image of W.
        pack_weight(portable_, random_tensor({e.depth, e.columns}, DType::kF32, 2), DType::kBF16,
                    true, weight);
        Tensor expected = random_tensor({e.rows, e.columns}, output, 3);
        Tensor got = expected.clone();
        linear_dgrad(portable_, x, weight, expected,
                     accumulate ? Write::kAccumulate : Write::kOverwrite);
        Tensor memory = scratch(e.depth);
        amx_product<SoftwareTiles>(product_task(x, weight.dgrad, got, accumulate),
                                   memory.data<float>());
        EXPECT_TRUE(same_bits(got, expected))
            << e.rows << " rows, " << e.columns << " columns, depth " << e.depth << ", "
            << dtype_name(output) << ", accumulate " << accumulate;
      }
}

TEST_F(AmxKernelTest, ProductOfAColumnRangeLeavesTheOthersAlone) {
  const Tensor x = random_tensor({40, 70}, DType::kBF16, 1);
  PackedWeight weight;
  pack_weight(portable_, random_tensor({230, 70}, DType::kF32, 2), DType::kBF16, false, weight);
  Tensor whole = Tensor::empty({40, 230}, DType::kF32);
  linear_forward(portable_, x, weight, whole);
  Tensor got = Tensor::zeros({40, 230}, DType::kF32);
  ProductTask task = product_task(x, weight.forward, got, false);
  task.column_begin = 64;
  task.column_end = 160;
  Tensor memory = scratch(70);
  amx_product<SoftwareTiles>(task, memory.data<float>());
  for (int64_t r = 0; r < 40; ++r)
    for (int64_t c = 0; c < 230; ++c)
      ASSERT_EQ(got.data<float>()[r * 230 + c],
                c >= 64 && c < 160 ? whole.data<float>()[r * 230 + c] : 0.0f)
          << r << ", " << c;
}

TEST_F(AmxKernelTest, WgradHasTheBitsOfThePortableLevel) {
  for (const Extents& e : kExtents) {
    const Tensor dy = random_tensor({e.depth, e.rows}, DType::kBF16, 1);
    const Tensor x = random_tensor({e.depth, e.columns}, DType::kBF16, 2);
    Tensor expected = random_tensor({e.rows, e.columns}, DType::kF32, 3);
    Tensor got = expected.clone();
    linear_wgrad(portable_, dy, x, expected);

    Tensor tiles = Tensor::empty({round_up(e.rows, 32), round_up(e.depth, 32)}, DType::kBF16);
    Tensor image = Tensor::empty({round_up(e.columns, 32), round_up(e.depth, 32)}, DType::kBF16);
    amx_pack_transposed({dy.raw(), DType::kBF16, e.depth, e.rows}, 0, e.rows, tiles.raw());
    for (int64_t block = 0; block < divide_up(e.columns, 32); ++block)
      LinearCpu<Isa::kPortable>::pack_columns({x.raw(), DType::kBF16, e.depth, e.columns},
                                              DType::kBF16, block, image.raw());
    Tensor memory = scratch(0);
    amx_wgrad<SoftwareTiles>({.dtype = DType::kBF16,
                              .transposed = tiles.raw(),
                              .image = image.raw(),
                              .dweight = got.data<float>(),
                              .rows = e.rows,
                              .tokens = e.depth,
                              .columns = e.columns,
                              .row_begin = 0,
                              .row_end = e.rows,
                              .column_begin = 0,
                              .column_end = e.columns},
                             memory.data<float>());
    EXPECT_TRUE(same_bits(got, expected))
        << e.rows << " rows, " << e.columns << " columns, " << e.depth << " tokens";
  }
}

TEST_F(AmxKernelTest, FlushesDenormals) {
  const Tensor x = random_tensor({20, 70}, DType::kBF16, 3, -0x1p-60f, 0x1p-60f);
  PackedWeight weight;
  pack_weight(portable_, random_tensor({40, 70}, DType::kF32, 4, -0x1p-66f, 0x1p-66f), DType::kBF16,
              false, weight);
  Tensor expected = Tensor::empty({20, 40}, DType::kF32), got = expected.clone();
  linear_forward(portable_, x, weight, expected);
  Tensor memory = scratch(70);
  amx_product<SoftwareTiles>(product_task(x, weight.forward, got, false), memory.data<float>());
  EXPECT_TRUE(same_bits(got, expected));
}

}  // namespace
}  // namespace moerl::kernels
