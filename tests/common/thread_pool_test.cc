#include "common/thread_pool.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace moerl {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsEveryChunkOnce) {
  ThreadPool pool(GetParam());
  for (int64_t n : {0, 1, 2, 3, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<size_t>(n));
    pool.parallel_for(n, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
    for (const std::atomic<int>& count : runs) EXPECT_EQ(count, 1);
  }
}

TEST_P(ThreadPoolTest, SurvivesManyShortLoops) {
  ThreadPool pool(GetParam());
  std::atomic<int64_t> sum = 0;
  for (int loop = 0; loop < 20000; ++loop) pool.parallel_for(4, [&](int64_t i) { sum += i; });
  EXPECT_EQ(sum, 20000 * 6);
}

TEST_P(ThreadPoolTest, RethrowsAndGoesOn) {
  ThreadPool pool(GetParam());
  EXPECT_THROW(pool.parallel_for(16,
                                 [](int64_t i) {
                                   if (i == 7) throw std::runtime_error("seven");
                                 }),
               std::runtime_error);
  std::atomic<int> runs = 0;
  pool.parallel_for(16, [&](int64_t) { ++runs; });
  EXPECT_EQ(runs, 16);
}

TEST_P(ThreadPoolTest, TakesLoopsFromSeveralThreads) {
  ThreadPool pool(GetParam());
  std::atomic<int64_t> sum = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      for (int loop = 0; loop < 500; ++loop) pool.parallel_for(8, [&](int64_t) { ++sum; });
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 3 * 500 * 8);
}

TEST_P(ThreadPoolTest, FlushesDenormalsInsideLoopsOnly) {
  ThreadPool pool(GetParam());
  const unsigned before = _mm_getcsr();
  std::vector<float> halves(64, -1.0f);
  volatile float smallest_normal = 1.17549435e-38f;
  pool.parallel_for(64,
                    [&](int64_t i) { halves[static_cast<size_t>(i)] = smallest_normal * 0.5f; });
  for (float half : halves) EXPECT_EQ(half, 0.0f);
  EXPECT_EQ(_mm_getcsr() & 0x8040, before & 0x8040);
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 5));

TEST(ThreadPoolTest, RefusesAnEmptyTeam) { EXPECT_THROW(ThreadPool(0), std::invalid_argument); }

}  // namespace
}  // namespace moerl
