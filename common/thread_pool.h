#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace moerl {

/// A fixed team of threads for data-parallel loops. The caller is one of the team.
/// Every member runs with denormals flushed to zero (FTZ and DAZ), the arithmetic of AMX, so that
/// all instruction levels agree; the caller's own mode is restored when the loop ends.
/// Thread safety: one loop at a time; loops started from several threads run one after the other.
class ThreadPool {
 public:
  /// @param num_threads members of the team, the caller included; >= 1.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  /// Runs body(chunk) for every chunk in [0, num_chunks), each once, in any order and on any
  /// member; returns when all are done. A result must not depend on who ran which chunk.
  /// The first exception thrown by a body is rethrown here. Loops do not nest.
  template <typename Body>
  void parallel_for(int64_t num_chunks, const Body& body) {
    run(
        num_chunks, [](const void* b, int64_t chunk) { (*static_cast<const Body*>(b))(chunk); },
        &body);
  }

 private:
  void run(int64_t num_chunks, void (*body)(const void*, int64_t), const void* context);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moerl
