// The only file that knows cuBLASLt; a shared library of its own, libmoerl_cublaslt.so.
#include <cublasLt.h>

#include <array>
#include <span>

#include "common/check.h"
#include "kernels/gemm/dense_library.h"

namespace moerl::kernels {
namespace {

/// Algorithms that are asked for; those that a proof refuses cost a probe each, once.
constexpr int kMostAlgorithms = 32;
/// Rows of a large micro-batch: what "fastest" is about.
constexpr int64_t kTypicalRows = 4096;
constexpr uint32_t kAlignment = 16;

std::string status_text(const char* call, cublasStatus_t status) {
  return concat(call, ": ", cublasLtGetStatusString(status), " (", static_cast<int>(status),
                "; MOERL_CUBLASLT=0 does without cuBLASLt)");
}

/// A product as cuBLASLt is told of it: its matrices are column-major, y^T = W x^T.
class Matmul {
 public:
  Matmul(const DenseShape& shape, int64_t rows) : shape_(shape), rows_(rows) {
    const auto y_type = shape.y_dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
    const cublasOperation_t operation = shape.transposed ? CUBLAS_OP_N : CUBLAS_OP_T;
    check(cublasLtMatmulDescInit(&descriptor, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescInit");
    check(cublasLtMatmulDescSetAttribute(&descriptor, CUBLASLT_MATMUL_DESC_TRANSA, &operation,
                                         sizeof operation),
          "cublasLtMatmulDescSetAttribute");
    if (shape.transposed)
      layout(weight, CUDA_R_16BF, shape.columns, shape.depth);
    else
      layout(weight, CUDA_R_16BF, shape.depth, shape.columns);
    layout(x, CUDA_R_16BF, shape.depth, rows);
    layout(y, y_type, shape.columns, rows);
  }

  void check(cublasStatus_t status, const char* call) const {
    if (status != CUBLAS_STATUS_SUCCESS)
      throw std::runtime_error(
          concat(status_text(call, status), " for ", shape_, ", ", rows_, " rows"));
  }

  cublasLtMatmulDescOpaque_t descriptor{};
  cublasLtMatrixLayoutOpaque_t weight{}, x{}, y{};

 private:
  void layout(cublasLtMatrixLayoutOpaque_t& matrix, cudaDataType_t type, int64_t rows,
              int64_t columns) const {
    check(cublasLtMatrixLayoutInit(&matrix, type, static_cast<uint64_t>(rows),
                                   static_cast<uint64_t>(columns), rows),
          "cublasLtMatrixLayoutInit");
  }

  const DenseShape& shape_;
  int64_t rows_;
};

class Algorithm final : public DenseAlgorithm {
 public:
  Algorithm(cublasLtHandle_t handle, const DenseShape& shape, const cublasLtMatmulAlgo_t& algorithm)
      : handle_(handle), shape_(shape), algorithm_(algorithm) {}

  void run(int64_t rows, const void* x, const void* weight, void* y) const override {
    Matmul call(shape_, rows);
    const float alpha = 1, beta = shape_.accumulate ? 1 : 0;
    call.check(cublasLtMatmul(handle_, &call.descriptor, &alpha, weight, &call.weight, x, &call.x,
                              &beta, y, &call.y, y, &call.y, &algorithm_, nullptr, 0, nullptr),
               "cublasLtMatmul");
  }

 private:
  cublasLtHandle_t handle_;
  DenseShape shape_;
  cublasLtMatmulAlgo_t algorithm_;
};

class CublasLtLibrary final : public DenseLibrary {
 public:
  CublasLtLibrary() {
    const cublasStatus_t status = cublasLtCreate(&handle_);
    if (status != CUBLAS_STATUS_SUCCESS)
      throw std::runtime_error(status_text("cublasLtCreate", status));
  }
  ~CublasLtLibrary() override { cublasLtDestroy(handle_); }

  std::vector<std::unique_ptr<DenseAlgorithm>> algorithms(const DenseShape& shape) override {
    Matmul call(shape, kTypicalRows);
    cublasLtMatmulPreferenceOpaque_t preference{};
    call.check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      call.check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
                 "cublasLtMatmulPreferenceSetAttribute");
    };
    // Without a workspace partial sums have nowhere to lie, so none of a depth in parts, whose
    // number might depend on the rows.
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      prefer(attribute, kAlignment);

    std::array<cublasLtMatmulHeuristicResult_t, kMostAlgorithms> found{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, &call.descriptor, &call.weight, &call.x, &call.y,
                                       &call.y, &preference, kMostAlgorithms, found.data(), &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
    call.check(status, "cublasLtMatmulAlgoGetHeuristic");
    std::vector<std::unique_ptr<DenseAlgorithm>> algorithms;
    for (const auto& result : std::span(found).first(static_cast<size_t>(count)))
      if (result.state == CUBLAS_STATUS_SUCCESS && sums_in_one_place(result.algo))
        algorithms.push_back(std::make_unique<Algorithm>(handle_, shape, result.algo));
    return algorithms;
  }

 private:
  static bool sums_in_one_place(const cublasLtMatmulAlgo_t& algorithm) {
    int32_t parts = 0;
    return cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                                sizeof parts, nullptr) == CUBLAS_STATUS_SUCCESS &&
           (parts == 0 || parts == 1);
  }

  cublasLtHandle_t handle_ = nullptr;
};

}  // namespace
}  // namespace moerl::kernels

extern "C" moerl::kernels::DenseLibrary* moerl_open_cublaslt() {
  return new moerl::kernels::CublasLtLibrary;
}
