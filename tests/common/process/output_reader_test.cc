#include "common/process/output_reader.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace moerl {
namespace {

using boost::asio::io_context;
using boost::asio::posix::stream_descriptor;

TEST(OutputReaderTest, StopsAtTheLimit) {
  io_context io;
  Pipe pipe = make_pipe();
  int num_over = 0;
  OutputReader reader(io, std::move(pipe.read), 3, [&] { ++num_over; });
  ASSERT_EQ(::write(pipe.write.get(), "abcdef", 6), 6);
  io.run();
  EXPECT_EQ(reader.text(), "abc");
  EXPECT_EQ(num_over, 1);
  EXPECT_FALSE(reader.is_open());
}

TEST(OutputReaderTest, EndsWhenTheWriterHasGone) {
  io_context io;
  Pipe pipe = make_pipe();
  OutputReader reader(io, std::move(pipe.read), 100, [] {});
  ASSERT_EQ(::write(pipe.write.get(), "abc", 3), 3);
  pipe.write.reset();
  io.run();
  EXPECT_EQ(reader.text(), "abc");
  EXPECT_FALSE(reader.is_open());
}

// A process ends while its output is being read: what has been taken from the pipe must be there.
TEST(OutputReaderTest, DrainKeepsWhatWasReadAndNotYetHandedOver) {
  io_context io;
  Pipe pipe = make_pipe(), end = make_pipe();
  OutputReader reader(io, std::move(pipe.read), 1 << 20, [] {});
  stream_descriptor ended(io, end.read.release());
  ended.async_wait(ended.wait_read, [&](const boost::system::error_code&) {
    reader.drain();
    io.stop();
  });
  io.poll();
  io.restart();
  // More than the reader takes at a time; both are then found in one look at the kernel.
  const std::string last_words(20'000, 'x');
  ASSERT_EQ(::write(pipe.write.get(), last_words.data(), last_words.size()), 20'000);
  ASSERT_EQ(::write(end.write.get(), "x", 1), 1);
  io.run();
  EXPECT_EQ(reader.text().size(), last_words.size());
}

}  // namespace
}  // namespace moerl
