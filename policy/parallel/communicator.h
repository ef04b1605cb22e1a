#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include "kernels/tensor.h"

namespace moerl {

/// Another rank is lost or late; the text names it.
class CommunicationError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The processes ("ranks") that compute one run together, and the one thing they do with each
/// other: everybody sends something to everybody. collectives.h builds the rest on it, so that the
/// order of every sum is written once and not left to a library.
///
/// Every rank makes the same calls in the same order, one thread of it at a time.
class Communicator {
 public:
  Communicator() = default;
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// This process, in [0, size()).
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Sends send[r] to every rank r, and fills recv[r] with what rank r sends here; the own part is
  /// copied. Returns when all of it has arrived.
  /// @param send, recv  size() spans each, in memory that does not overlap: main memory, but for a
  ///   communicator that on_device() gave. recv[r] is as long as what rank r sends; both may be
  ///   empty.
  /// @throws CommunicationError naming the ranks that did not answer in time, where they are known.
  virtual void all_to_all_v(std::span<const std::span<const std::byte>> send,
                            std::span<const std::span<std::byte>> recv) = 0;

  /// Gives on_device() the one for kCuda.
  void use_on_cuda(std::unique_ptr<Communicator> communicator) {
    on_cuda_ = std::move(communicator);
  }

  /// Writes the reason to stderr and ends all ranks at once, where the launcher can: after an error
  /// on this one, which nobody else has to wait out. May return.
  virtual void abort(const std::string& reason) = 0;

 protected:
  /// The one for kCuda, where use_on_cuda() has given none; null: no better than staged.
  virtual std::unique_ptr<Communicator> make_on_cuda() { return nullptr; }

 private:
  friend Communicator& on_device(Communicator& comm, Device device);
  std::unique_ptr<Communicator> on_cuda_;  // made when it is first asked for
};

/// The same ranks, for what lies in the memory of a device: on kCuda over NCCL, or by way of main
/// memory (staged_communicator.h). Lives as long as `comm`.
Communicator& on_device(Communicator& comm, Device device);

/// The communicator of a run in one process.
Communicator& single_process();

}  // namespace moerl
