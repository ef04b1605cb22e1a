// The only file that knows NCCL; a shared library of its own, libmoerl_nccl.so.
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <sched.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "common/check.h"
#include "policy/parallel/communicator.h"

namespace moerl {
namespace {

void check_cuda(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw CommunicationError(concat(call, ": ", cudaGetErrorString(code)));
}
void check_nccl(ncclResult_t code, const char* call) {
  if (code != ncclSuccess) throw CommunicationError(concat(call, ": ", ncclGetErrorString(code)));
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Communicator& host, double timeout_s)
      : timeout_s_(timeout_s), rank_(host.rank()), size_(host.size()) {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    ncclUniqueId id{};
    if (rank_ == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    share(host, id);
    // Without this NCCL's calls wait for the other ranks as long as it takes.
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    settle(ncclCommInitRankConfig(&comm_, size_, id, rank_, &config), "ncclCommInitRankConfig");
  }
  ~NcclCommunicator() override {
    ncclCommDestroy(comm_);
    cudaStreamDestroy(stream_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_to_all_v(std::span<const std::span<const std::byte>> send,
                    std::span<const std::span<std::byte>> recv) override {
    const auto n = static_cast<size_t>(size_);
    check(send.size() == n && recv.size() == n, "all_to_all_v: ", send.size(), " parts to send, ",
          recv.size(), " to receive, expected ", n);
    // What this exchange reads was written on other streams.
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    check_nccl(ncclGroupStart(), "ncclGroupStart");
    for (int r = 0; r < size_; ++r) {
      const auto [from, to] = std::pair(send[static_cast<size_t>(r)], recv[static_cast<size_t>(r)]);
      if (!from.empty())
        check_asked(ncclSend(from.data(), from.size(), ncclUint8, r, comm_, stream_), "ncclSend");
      if (!to.empty())
        check_asked(ncclRecv(to.data(), to.size(), ncclUint8, r, comm_, stream_), "ncclRecv");
    }
    settle(ncclGroupEnd(), "ncclGroupEnd");
    wait_until([&] {
      const cudaError_t state = cudaStreamQuery(stream_);
      if (state != cudaErrorNotReady) check_cuda(state, "cudaStreamQuery");
      return state == cudaSuccess && is_settled("NCCL");
    });
  }

  void abort(const std::string& reason) override {
    std::fprintf(stderr, "moerl: error: rank %d: %s\n", rank_, reason.c_str());
    ncclCommAbort(comm_);
  }

 private:
  /// Rank 0's id, on every rank.
  static void share(Communicator& host, ncclUniqueId& id) {
    const auto n = static_cast<size_t>(host.size());
    ncclUniqueId received{};
    std::vector<std::span<const std::byte>> send(n);
    std::vector<std::span<std::byte>> recv(n);
    if (host.rank() == 0) std::fill(send.begin(), send.end(), std::as_bytes(std::span(&id, 1)));
    recv[0] = std::as_writable_bytes(std::span(&received, 1));
    host.all_to_all_v(send, recv);
    id = received;
  }

  /// Of a call that may be under way still.
  static void check_asked(ncclResult_t code, const char* call) {
    if (code != ncclInProgress) check_nccl(code, call);
  }
  /// Whether what was asked of the communicator is no longer under way. @throws what went wrong.
  bool is_settled(const char* call) const {
    ncclResult_t state = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
    check_asked(state, call);
    return state == ncclSuccess;
  }
  void settle(ncclResult_t code, const char* call) const {
    check_asked(code, call);
    wait_until([&] { return is_settled(call); });
  }

  /// NCCL's own waits do not end when a rank is lost.
  template <typename Done>
  void wait_until(const Done& done) const {
    const auto begin = std::chrono::steady_clock::now();
    while (!done()) {
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      if (waited.count() > timeout_s_)
        throw CommunicationError(concat("rank ", rank_, " of ", size_, " waited ", timeout_s_,
                                        " s in vain for the other ranks"));
      ::sched_yield();
    }
  }

  double timeout_s_;
  int rank_, size_;
  cudaStream_t stream_ = nullptr;
  ncclComm_t comm_ = nullptr;
};

}  // namespace
}  // namespace moerl

/// @param host  over the same ranks; introduces them to each other.
extern "C" moerl::Communicator* moerl_open_nccl(moerl::Communicator* host, double timeout_s) {
  return new moerl::NcclCommunicator(*host, timeout_s);
}
