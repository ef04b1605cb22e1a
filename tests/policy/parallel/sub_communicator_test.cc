#include "policy/parallel/sub_communicator.h"

#include <gtest/gtest.h>

#include "tests/policy/parallel/collective_checks.h"
#include "tests/testing/thread_ranks.h"

namespace moerl::testing {
namespace {

TEST(SubCommunicatorTest, GroupsExchangeSideBySide) {
  ThreadRanks::run(6, [](Communicator& comm) {
    const int half = comm.rank() / 3;
    SubCommunicator neighbours(comm, {3 * half, 3 * half + 1, 3 * half + 2});
    EXPECT_EQ(neighbours.rank(), comm.rank() % 3);
    check_all_collectives(neighbours);
    SubCommunicator strided(comm, {comm.rank() % 2, comm.rank() % 2 + 2, comm.rank() % 2 + 4});
    EXPECT_EQ(strided.rank(), comm.rank() / 2);
    check_all_collectives(strided);
  });
}

TEST(SubCommunicatorTest, RefusesAGroupWithoutTheOwnRank) {
  ThreadRanks::run(2, [](Communicator& comm) {
    EXPECT_THROW(SubCommunicator(comm, {1 - comm.rank()}), std::invalid_argument);
    EXPECT_THROW(SubCommunicator(comm, {1, 0}), std::invalid_argument);
    EXPECT_THROW(SubCommunicator(comm, {0, 1, 2}), std::invalid_argument);
  });
}

}  // namespace
}  // namespace moerl::testing
