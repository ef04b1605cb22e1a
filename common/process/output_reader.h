#pragma once
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <string>

#include "common/process/unique_fd.h"

namespace moerl {

/// Collects what arrives at the read end of a pipe, up to a limit. Runs on the io_context that it
/// was made with. Include only from .cc files: Boost.Asio is heavy.
class OutputReader {
 public:
  /// @param over_limit  called once, when a byte beyond the limit arrives; reading stops there.
  OutputReader(boost::asio::io_context& io, UniqueFd end, size_t max_bytes,
               std::function<void()> over_limit)
      : pipe_(io, end.release()), max_bytes_(max_bytes), over_limit_(std::move(over_limit)) {
    pipe_.non_blocking(true);
    read();
  }

  bool is_open() const { return is_open_; }
  std::string& text() { return text_; }

  /// Takes what is there without waiting, then stops.
  void drain() {
    boost::system::error_code error;
    while (is_open_ && text_.size() <= max_bytes_) {
      const size_t size = pipe_.read_some(boost::asio::buffer(buffer_), error);
      if (error) break;
      text_.append(buffer_.data(), size);
    }
    if (text_.size() > max_bytes_) text_.resize(max_bytes_);
    close();
  }
  void close() {
    is_open_ = false;
    boost::system::error_code ignored;
    pipe_.close(ignored);
  }

 private:
  // Bytes are taken within the handler only: those of a finished async_read_some whose handler is
  // still to come would be lost when the io_context is stopped.
  void read() {
    pipe_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                     [this](boost::system::error_code error) {
                       if (error == boost::asio::error::operation_aborted) return;
                       size_t size = 0;
                       if (!error) size = pipe_.read_some(boost::asio::buffer(buffer_), error);
                       if (error == boost::asio::error::would_block) return read();
                       if (error) return close();
                       text_.append(buffer_.data(), size);
                       if (text_.size() <= max_bytes_) return read();
                       text_.resize(max_bytes_);
                       close();
                       over_limit_();
                     });
  }

  boost::asio::posix::stream_descriptor pipe_;
  const size_t max_bytes_;
  const std::function<void()> over_limit_;
  bool is_open_ = true;
  std::string text_;
  std::array<char, 16384> buffer_;
};

}  // namespace moerl
