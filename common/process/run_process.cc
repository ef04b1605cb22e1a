#include "common/process/run_process.h"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <csignal>

#include "common/process/output_reader.h"

namespace moerl {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

/// Writing to a reader that has gone must be an error, not a signal, for this thread.
class SigpipeBlocked {
 public:
  SigpipeBlocked() {
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~SigpipeBlocked() {
    if (::sigismember(&before_, SIGPIPE)) return;
    const timespec now{};
    while (::sigtimedwait(&pipe_, nullptr, &now) > 0) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_, before_;
};

}  // namespace

ProcessResult run_process(ProcessSpec spec, std::string_view input, const ProcessLimits& limits,
                          const std::stop_token& cancel) {
  const SigpipeBlocked no_signal;
  Pipe in = make_pipe(), out = make_pipe(), err = make_pipe();
  spec.descriptors.insert(spec.descriptors.end(),
                          {{in.read.get(), 0}, {out.write.get(), 1}, {err.write.get(), 2}});
  const auto start = std::chrono::steady_clock::now();
  ChildProcess child(spec);
  in.read.reset();
  out.write.reset();
  err.write.reset();

  asio::io_context io;
  ProcessResult result;
  auto stop = [&](ProcessStop reason) {
    result.stop = reason;
    child.kill_group();
    io.stop();
  };
  OutputReader reader_out(io, std::move(out.read), limits.max_stdout_bytes,
                          [&] { stop(ProcessStop::kOutputLimit); });
  OutputReader reader_err(io, std::move(err.read), limits.max_stderr_bytes,
                          [&] { stop(ProcessStop::kOutputLimit); });
  asio::posix::stream_descriptor feed(io, in.write.release());
  asio::async_write(feed, asio::buffer(input.data(), input.size()), [&](const error_code&, size_t) {
    error_code ignored;
    feed.close(ignored);
  });
  asio::steady_timer timer(io, start + limits.wall);
  timer.async_wait([&](const error_code& error) {
    if (!error) stop(ProcessStop::kWall);
  });
  asio::posix::stream_descriptor ended(io, ::dup(child.pidfd()));
  ended.async_wait(asio::posix::stream_descriptor::wait_read, [&](const error_code& error) {
    if (!error) io.stop();
  });
  const std::stop_callback on_cancel(
      cancel, [&] { asio::post(io, [&] { stop(ProcessStop::kCancelled); }); });
  io.run();

  result.end = *child.wait(std::chrono::milliseconds(-1));
  result.wall_time = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - start);
  reader_out.drain();
  reader_err.drain();
  result.out = std::move(reader_out.text());
  result.err = std::move(reader_err.text());
  return result;
}

}  // namespace moerl
