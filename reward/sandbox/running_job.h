#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>

#include "common/process/output_reader.h"
#include "reward/sandbox/sandbox.h"

namespace moerl::reward {

/// A job in a sandbox, driven by an io_context. Include only from .cc files.
class RunningJob {
 public:
  /// Starts the job; `on_end` is called once, from the io_context.
  RunningJob(boost::asio::io_context& io, Sandbox& sandbox, const Job& job,
             std::function<void()> on_end);

  /// Kills the job; it then ends with this stop, unless it had ended already.
  void cancel(JobStop reason);
  JobResult& result() { return result_; }

 private:
  void request(const Job& job, UniqueFd out, UniqueFd err);
  void receive_reply();
  void end(JobStop stop);

  Sandbox& sandbox_;
  const std::function<void()> on_end_;
  UniqueFd lifeline_, collected_;
  JobStop cancelled_as_ = JobStop::kEnded;
  uint64_t oom_kills_before_ = 0;
  std::unique_ptr<OutputReader> out_, err_;
  boost::asio::posix::stream_descriptor control_;
  boost::asio::steady_timer timer_;
  bool has_ended_ = false;
  JobResult result_;
};

}  // namespace moerl::reward
