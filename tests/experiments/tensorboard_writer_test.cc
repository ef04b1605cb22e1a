#include "experiments/tensorboard_writer.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "tests/experiments/event_file.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::testing {
namespace {

TEST(Crc32cTest, GivesTheKnownValues) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("a"), 0xC1D04330u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  // RFC 3720, appendix B.4.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending += static_cast<char>(i);
  EXPECT_EQ(crc32c(ascending), 0x46DD794Eu);
}

TEST(TensorBoardWriterTest, FileHoldsTheScalarsAsEvents) {
  const TemporaryDirectory directory;
  {
    TensorBoardWriter writer(directory.path());
    writer.add_scalars(3, 1000.5, {{"a/b", 0.25}, {"loss", -7}});
    writer.add_scalars(400, 1001, {{"loss", 1e-3}});
  }
  const std::vector<Event> events = read_event_file(only_event_file(directory.path()));
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.6e9);
  EXPECT_EQ(events[1].step, 3);
  EXPECT_EQ(events[1].wall_time, 1000.5);
  EXPECT_EQ(events[1].scalars, (std::map<std::string, float>{{"a/b", 0.25f}, {"loss", -7.0f}}));
  EXPECT_EQ(events[2].step, 400);
  EXPECT_EQ(events[2].scalars, (std::map<std::string, float>{{"loss", 1e-3f}}));
}

TEST(TensorBoardWriterTest, ANewWriterReplacesOlderFiles) {
  const TemporaryDirectory directory;
  directory.write("events.out.tfevents.1.old", "x");
  directory.write("keep.txt", "x");
  TensorBoardWriter(directory.path()).add_scalars(1, 0, {{"x", 1}});
  EXPECT_EQ(read_event_file(only_event_file(directory.path())).size(), 2u);
  EXPECT_EQ(directory.read("keep.txt"), "x");
}

}  // namespace
}  // namespace moerl::testing
