// The only file that knows MPI; a shared library of its own, libmoerl_mpi.so.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "common/check.h"
#include "policy/parallel/communicator.h"

namespace moerl {
namespace {

/// MPI counts in int; longer messages travel as several.
constexpr size_t kMaxMessageBytes = size_t{1} << 30;
/// Looks at the network before a wait begins to sleep between looks.
constexpr int kEagerLooks = 2000;
constexpr auto kPause = std::chrono::microseconds(100);

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommunicationError(concat(call, ": ", std::string(text, static_cast<size_t>(length))));
}

/// Calls f(part) for the messages that `bytes` travels as.
template <typename Byte, typename F>
void for_each_message(std::span<Byte> bytes, const F& f) {
  for (size_t begin = 0; begin < bytes.size(); begin += kMaxMessageBytes)
    f(bytes.subspan(begin, std::min(kMaxMessageBytes, bytes.size() - begin)));
}

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(double timeout_s) : timeout_s_(timeout_s) {
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init");
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
    if (provided < MPI_THREAD_SERIALIZED)
      throw ConfigError(
          "this MPI cannot be used in a program with threads (it lacks "
          "MPI_THREAD_SERIALIZED)");
  }
  ~MpiCommunicator() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_to_all_v(std::span<const std::span<const std::byte>> send,
                    std::span<const std::span<std::byte>> recv) override {
    const auto n = static_cast<size_t>(size_), self = static_cast<size_t>(rank_);
    check(send.size() == n && recv.size() == n, "all_to_all_v: ", send.size(), " parts to send, ",
          recv.size(), " to receive, expected ", n);
    check(send[self].size() == recv[self].size(), "all_to_all_v: rank ", rank_, " sends itself ",
          send[self].size(), " bytes and expects ", recv[self].size());
    if (!send[self].empty()) std::memcpy(recv[self].data(), send[self].data(), send[self].size());

    std::vector<Message> messages;
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      for_each_message(recv[static_cast<size_t>(r)], [&](std::span<std::byte> part) {
        Message& message = messages.emplace_back(Message{r, static_cast<int>(part.size())});
        check_mpi(
            MPI_Irecv(part.data(), message.bytes, MPI_BYTE, r, 0, MPI_COMM_WORLD, &message.request),
            "MPI_Irecv");
      });
    }
    const size_t num_receives = messages.size();
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      for_each_message(send[static_cast<size_t>(r)], [&](std::span<const std::byte> part) {
        Message& message = messages.emplace_back(Message{r, static_cast<int>(part.size())});
        check_mpi(
            MPI_Isend(part.data(), message.bytes, MPI_BYTE, r, 0, MPI_COMM_WORLD, &message.request),
            "MPI_Isend");
      });
    }
    wait(messages, num_receives);
  }

  void abort(const std::string& reason) override {
    std::fprintf(stderr, "moerl: error: rank %d: %s\n", rank_, reason.c_str());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }

 private:
  struct Message {
    int peer;
    int bytes;
    MPI_Request request = MPI_REQUEST_NULL;
    bool done = false;
  };

  /// MPI's own waits neither end nor sleep.
  void wait(std::vector<Message>& messages, size_t num_receives) const {
    const auto begin = std::chrono::steady_clock::now();
    for (int looks = 0;; ++looks) {
      bool all_done = true;
      for (size_t i = 0; i < messages.size(); ++i) {
        Message& m = messages[i];
        if (m.done) continue;
        int done = 0;
        MPI_Status status;
        check_mpi(MPI_Test(&m.request, &done, &status), "MPI_Test");
        m.done = done != 0;
        all_done = all_done && m.done;
        if (!m.done || i >= num_receives) continue;
        int received = 0;
        check_mpi(MPI_Get_count(&status, MPI_BYTE, &received), "MPI_Get_count");
        check_internal(received == m.bytes, "rank ", rank_, " received ", received,
                       " bytes from rank ", m.peer, ", expected ", m.bytes);
      }
      if (all_done) return;
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      if (waited.count() > timeout_s_) give_up(messages);
      if (looks < kEagerLooks) {
        ::sched_yield();
      } else {
        std::this_thread::sleep_for(kPause);
      }
    }
  }

  [[noreturn]] void give_up(const std::vector<Message>& messages) const {
    std::vector<bool> silent(static_cast<size_t>(size_));
    for (const Message& m : messages)
      if (!m.done) silent[static_cast<size_t>(m.peer)] = true;
    std::string names;
    for (int r = 0; r < size_; ++r)
      if (silent[static_cast<size_t>(r)]) names += concat(names.empty() ? "" : ", ", r);
    throw CommunicationError(concat("rank ", rank_, " of ", size_, " waited ", timeout_s_,
                                    " s in vain for rank ", names,
                                    ": it has ended, hangs, or is slower than that"));
  }

  double timeout_s_;
  int rank_ = 0, size_ = 1;
};

}  // namespace
}  // namespace moerl

extern "C" moerl::Communicator* moerl_open_mpi(double timeout_s) {
  return new moerl::MpiCommunicator(timeout_s);
}
