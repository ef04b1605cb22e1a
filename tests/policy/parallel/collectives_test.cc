#include "policy/parallel/collectives.h"

#include "tests/policy/parallel/collective_checks.h"
#include "tests/testing/thread_ranks.h"

namespace moerl::testing {
namespace {

TEST(CollectivesTest, OneProcess) { check_all_collectives(single_process()); }

TEST(CollectivesTest, RanksInThreads) {
  for (int size : {1, 2, 3, 4}) ThreadRanks::run(size, check_all_collectives);
}

}  // namespace
}  // namespace moerl::testing
