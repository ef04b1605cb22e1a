#include "kernels/gemm/cublaslt_loader.h"

#include "common/shared_library.h"
#include "kernels/cuda/backend.h"

namespace moerl::kernels {
namespace {

SharedLibrary load(const std::filesystem::path& directory) {
  return SharedLibrary(directory / "libmoerl_cublaslt.so", "NVIDIA's CUDA toolkit, with cuBLAS");
}

}  // namespace

std::unique_ptr<DenseLibrary> open_cublaslt(const std::filesystem::path& directory) {
  if (device_memory().is_emulated) return nullptr;
  const SharedLibrary library = load(directory);
  if (!library.is_loaded()) return nullptr;
  return std::unique_ptr<DenseLibrary>(library.function<DenseLibrary*()>("moerl_open_cublaslt")());
}

std::string describe_cublaslt(const std::filesystem::path& directory) {
  return load(directory).describe();
}

}  // namespace moerl::kernels
