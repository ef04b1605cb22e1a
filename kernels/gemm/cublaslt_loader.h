#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "kernels/gemm/dense_library.h"

namespace moerl::kernels {

/// cuBLASLt, for DenseProducts::use(): by libmoerl_cublaslt.so, which is linked with it and lies
/// beside the program, which is not.
/// @param directory  where the library lies.
/// @return null if it cannot be loaded (describe_cublaslt says why), or the device is emulated.
/// @throws std::runtime_error saying what cuBLASLt says if it does not start.
std::unique_ptr<DenseLibrary> open_cublaslt(const std::filesystem::path& directory);

/// Whether the library could be loaded, or why not.
std::string describe_cublaslt(const std::filesystem::path& directory);

}  // namespace moerl::kernels
