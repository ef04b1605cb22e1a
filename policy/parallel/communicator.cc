#include "policy/parallel/communicator.h"

#include "policy/parallel/staged_communicator.h"

namespace moerl {

Communicator& on_device(Communicator& comm, Device device) {
  if (device == Device::kCpu) return comm;
  if (comm.on_cuda_ == nullptr) comm.on_cuda_ = comm.make_on_cuda();
  if (comm.on_cuda_ == nullptr) comm.on_cuda_ = std::make_unique<StagedCommunicator>(comm);
  return *comm.on_cuda_;
}

}  // namespace moerl
