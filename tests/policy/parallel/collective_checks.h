#pragma once
// What every communicator must do, run by all of its ranks.
#include <gtest/gtest.h>

#include "common/rng.h"
#include "policy/parallel/collectives.h"
#include "tests/testing/same_bits.h"

namespace moerl::testing {

/// A tensor that only this rank has, for another one.
inline Tensor part_of(int from, int to, int64_t n) {
  Tensor part = Tensor::empty({n}, DType::kF32);
  Rng rng(static_cast<uint64_t>(from), static_cast<uint64_t>(to));
  for (int64_t i = 0; i < n; ++i) part.data<float>()[i] = static_cast<float>(rng.normal());
  return part;
}

/// Every pair of ranks exchanges a message of its own length, also none.
inline void check_all_to_all_v(Communicator& comm) {
  const int me = comm.rank(), n = comm.size();
  const auto text = [](int from, int to) {
    return std::string(static_cast<size_t>(from * 7 + to * 3) * 1000, static_cast<char>('a' + to)) +
           (from == to ? "" : std::to_string(from));
  };
  std::vector<std::string> out, in;
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> recv;
  for (int r = 0; r < n; ++r) {
    out.push_back(text(me, r));
    in.emplace_back(text(r, me).size(), '?');
  }
  for (int r = 0; r < n; ++r) {
    send.push_back(std::as_bytes(std::span(out[static_cast<size_t>(r)])));
    recv.push_back(std::as_writable_bytes(std::span(in[static_cast<size_t>(r)])));
  }
  comm.all_to_all_v(send, recv);
  for (int r = 0; r < n; ++r) EXPECT_EQ(in[static_cast<size_t>(r)], text(r, me)) << me;
}

inline void check_broadcast(Communicator& comm) {
  for (int root = 0; root < comm.size(); ++root) {
    const std::string text(static_cast<size_t>(root) * 5000, static_cast<char>('a' + root));
    EXPECT_EQ(broadcast(comm, comm.rank() == root ? text : "mine", root), text);
  }
}

inline void check_all_gather(Communicator& comm) {
  std::vector<int64_t> mine;
  for (int i = 0; i < comm.rank(); ++i) mine.push_back(comm.rank() * 100 + i);
  const std::vector<std::vector<int64_t>> all = all_gather(comm, mine);
  ASSERT_EQ(all.size(), static_cast<size_t>(comm.size()));
  for (int r = 0; r < comm.size(); ++r) {
    std::vector<int64_t> expected;
    for (int i = 0; i < r; ++i) expected.push_back(r * 100 + i);
    EXPECT_EQ(all[static_cast<size_t>(r)], expected);
  }

  std::vector<Tensor> tensors;
  for (int r = 0; r < comm.size(); ++r) tensors.push_back(Tensor::zeros({r * 10}, DType::kF32));
  all_gather(comm, part_of(comm.rank(), 0, comm.rank() * 10), tensors);
  for (int r = 0; r < comm.size(); ++r)
    EXPECT_TRUE(same_bits(tensors[static_cast<size_t>(r)], part_of(r, 0, r * 10)));
}

inline void check_gather(Communicator& comm) {
  for (int root = 0; root < comm.size(); ++root) {
    std::vector<Tensor> all;
    if (comm.rank() == root)
      for (int r = 0; r < comm.size(); ++r) all.push_back(Tensor::zeros({r + 4}, DType::kF32));
    gather(comm, part_of(comm.rank(), root, comm.rank() + 4), all, root);
    for (size_t r = 0; r < all.size(); ++r)
      EXPECT_TRUE(
          same_bits(all[r], part_of(static_cast<int>(r), root, static_cast<int64_t>(r) + 4)));
  }
}

/// ((sum + part of rank 0) + part of rank 1) + …, whatever order they came in.
inline void check_reduce_scatter(Communicator& comm) {
  ExecContext ctx(1);
  const auto length = [](int rank) { return int64_t{1000} + 10 * rank; };
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::vector<Tensor> parts;
    for (int r = 0; r < comm.size(); ++r) parts.push_back(part_of(comm.rank(), r, length(r)));
    Tensor sum = part_of(99, comm.rank(), length(comm.rank()));
    Tensor expected = sum.clone();
    for (int r = 0; r < comm.size(); ++r) {
      const Tensor part = part_of(r, comm.rank(), length(comm.rank()));
      for (int64_t i = 0; i < expected.numel(); ++i)
        expected.data<float>()[i] += part.data<float>()[i];
    }
    reduce_scatter(ctx, comm, parts, sum);
    EXPECT_TRUE(same_bits(sum, expected));
  }
}

inline void check_all_collectives(Communicator& comm) {
  check_all_to_all_v(comm);
  check_broadcast(comm);
  check_all_gather(comm);
  check_gather(comm);
  check_reduce_scatter(comm);
  barrier(comm);
}

}  // namespace moerl::testing
