#pragma once
#include <cstddef>
#include <stdexcept>
#include <string>

namespace moerl::kernels {

/// The answer to a device other than the CPU in a program without the CUDA backend.
/// @throws std::runtime_error always.
[[noreturn]] inline void throw_no_cuda() {
  throw std::runtime_error("this build has no CUDA backend");
}

// An op's x_impl.h declares a struct of function pointers, XCuda; its x_cuda.cu defines one and
// registers it; its x.cc calls cuda_ops<XCuda>().forward(...). So a program has the backend it is
// linked with (nvcc's objects, the emulator's, or none), and x.cc is compiled once for all.

template <typename Ops>
inline const Ops* registered_cuda_ops = nullptr;

/// @throws std::runtime_error if the program has no CUDA backend.
template <typename Ops>
const Ops& cuda_ops() {
  if (registered_cuda_ops<Ops> == nullptr) throw_no_cuda();
  return *registered_cuda_ops<Ops>;
}

/// At namespace scope of a x_cuda.cu: const RegisterCudaOps<XCuda> registered({forward, backward});
template <typename Ops>
class RegisterCudaOps {
 public:
  explicit RegisterCudaOps(const Ops& ops) : ops_(ops) { registered_cuda_ops<Ops> = &ops_; }
  RegisterCudaOps(const RegisterCudaOps&) = delete;
  RegisterCudaOps& operator=(const RegisterCudaOps&) = delete;

 private:
  const Ops ops_;
};

/// Memory of the device. Errors are std::runtime_error.
struct DeviceMemoryCuda {
  bool (*is_available)();  ///< a driver and a device are there
  /// The emulator: its memory is main memory, and libraries of CUDA cannot be used.
  bool is_emulated;
  /// "sm_90" and the like, whose tensor cores round alike; "emulated".
  std::string (*architecture)();
  void* (*allocate)(size_t bytes);
  void (*free)(void* memory);
  void (*copy_to_device)(void* device, const void* host, size_t bytes);
  void (*copy_to_host)(void* host, const void* device, size_t bytes);
  void (*copy_on_device)(void* to, const void* from, size_t bytes);
  void (*zero)(void* memory, size_t bytes);
  void (*synchronize)();     ///< until all that was asked for is done
  size_t (*total_memory)();  ///< bytes of the device
};

inline const DeviceMemoryCuda& device_memory() { return cuda_ops<DeviceMemoryCuda>(); }

inline bool has_cuda_backend() { return registered_cuda_ops<DeviceMemoryCuda> != nullptr; }

/// Whether Device::kCuda can be used.
inline bool cuda_is_available() { return has_cuda_backend() && device_memory().is_available(); }

/// @throws std::runtime_error saying why Device::kCuda cannot be used.
inline void require_cuda() {
  if (!device_memory().is_available())
    throw std::runtime_error("no CUDA device answers (moerl doctor says what is there)");
}

}  // namespace moerl::kernels
