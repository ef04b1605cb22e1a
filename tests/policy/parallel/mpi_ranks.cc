// The collectives between the processes that mpirun has started; every one of them is this program.
#include <cstdlib>

#include "policy/parallel/communicator_loader.h"
#include "policy/parallel/sub_communicator.h"
#include "testing/paths.h"
#include "tests/policy/parallel/collective_checks.h"

namespace moerl::testing {
namespace {

std::unique_ptr<Communicator> world;

TEST(MpiRanks, AreThoseThatWereLaunched) {
  EXPECT_EQ(world->size(), std::atoi(std::getenv("OMPI_COMM_WORLD_SIZE")));
  EXPECT_EQ(world->rank(), std::atoi(std::getenv("OMPI_COMM_WORLD_RANK")));
}
TEST(MpiRanks, AllToAllV) { check_all_to_all_v(*world); }
TEST(MpiRanks, Broadcast) { check_broadcast(*world); }
TEST(MpiRanks, AllGather) { check_all_gather(*world); }
TEST(MpiRanks, Gather) { check_gather(*world); }
TEST(MpiRanks, ReduceScatter) { check_reduce_scatter(*world); }
TEST(MpiRanks, GroupsExchangeSideBySide) {
  if (world->size() % 2 != 0) GTEST_SKIP() << "an odd number of ranks";
  std::vector<int> members;
  for (int r = world->rank() % 2; r < world->size(); r += 2) members.push_back(r);
  SubCommunicator group(*world, members);
  check_all_collectives(group);
}

}  // namespace
}  // namespace moerl::testing

int main(int argc, char** argv) {
  using moerl::testing::world;
  ::testing::InitGoogleTest(&argc, argv);
  world = moerl::open_mpi(MOERL_BUILD_DIR, 60);
  const int failed = RUN_ALL_TESTS();
  moerl::barrier(*world);  // the others may still be at work
  world.reset();
  return failed;
}
