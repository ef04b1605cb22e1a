#include "experiments/openai/http_connection.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/beast/http/read.hpp>
#include <cstdio>
#include <ctime>
#include <utility>

#include "common/check.h"
#include "experiments/openai/api_error.h"
#include "experiments/openai/request_target.h"

namespace moerl::openai {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr size_t kMaxHeadBytes = 16 << 10;
constexpr size_t kMaxBufferedBytes = 64 << 10;  // what a client may send before its turn
constexpr size_t kMaxDiscardedBytes = 16 << 20;
constexpr double kLingerSeconds = 2;

std::string text_of(boost::beast::string_view view) { return {view.data(), view.size()}; }

/// The paths that metrics know by name.
std::string metric_path(const std::string& path) {
  for (const char* known :
       {"/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/metrics"})
    if (path == known) return path;
  return "other";
}

/// RFC 9110, 5.6.7.
std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[40];
  std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return text;
}

std::string head_of(int status, bool http_1_1, bool keep_alive, const std::string& content_type) {
  std::string head =
      concat(http_1_1 ? "HTTP/1.1 " : "HTTP/1.0 ", status, " ",
             text_of(http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status)))),
             "\r\nDate: ", http_date(), "\r\nContent-Type: ", content_type,
             "\r\nCache-Control: no-store\r\n");
  // What the version implies is not said.
  if (http_1_1 != keep_alive)
    head += keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n";
  return head;
}

}  // namespace

HttpConnection::HttpConnection(HttpShared& shared, tcp::socket socket)
    : shared_(shared),
      socket_(std::move(socket)),
      read_deadline_(shared.io),
      write_deadline_(shared.io),
      buffer_(kMaxBufferedBytes) {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
}

void HttpConnection::start() {
  shared_.connections.insert(this);
  ++shared_.service.metrics().connections;
  arm(read_deadline_, shared_.config.idle_timeout_s);
  fill();
}

void HttpConnection::refuse() {
  shared_.connections.insert(this);
  ++shared_.service.metrics().connections;
  ++shared_.service.metrics().connections_refused;
  path_ = "other";
  refuse_request(503, "too_many_connections", "the server has too many connections");
}

void HttpConnection::arm(asio::steady_timer& timer, double seconds) {
  timer.expires_after(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
  timer.async_wait([self = shared_from_this(), &timer](const error_code& error) {
    // Neither cancelled nor set again meanwhile.
    if (!error && timer.expiry() <= asio::steady_timer::clock_type::now()) {
      if (&timer == &self->write_deadline_) ++self->shared_.service.metrics().clients_too_slow;
      self->close();
    }
  });
}

void HttpConnection::fill() {
  if (filling_ || state_ == State::kClosed || buffer_.size() == buffer_.max_size()) return;
  filling_ = true;
  const size_t room = std::min<size_t>(8192, buffer_.max_size() - buffer_.size());
  socket_.async_read_some(buffer_.prepare(room),
                          [self = shared_from_this()](const error_code& error, size_t bytes) {
                            self->filling_ = false;
                            self->on_filled(error, bytes);
                          });
}

void HttpConnection::on_filled(const error_code& error, size_t bytes) {
  if (state_ == State::kClosed) return;
  if (error == asio::error::operation_aborted && state_ == State::kIdle) return read_head();
  if (error) return client_left();
  buffer_.commit(bytes);
  switch (state_) {
    case State::kIdle:
      return read_head();
    case State::kLingering:
      discarded_ += buffer_.size();
      buffer_.consume(buffer_.size());
      return discarded_ > kMaxDiscardedBytes ? close() : fill();
    default:  // it is at work; the next request waits its turn
      return fill();
  }
}

void HttpConnection::client_left() {
  if (state_ == State::kAnswering && !answered_) ++shared_.service.metrics().clients_left;
  close();
}

void HttpConnection::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  shared_.connections.erase(this);
  --shared_.service.metrics().connections;
  read_deadline_.cancel();
  write_deadline_.cancel();
  error_code ignored;
  socket_.close(ignored);
  if (const auto gone = std::exchange(gone_, nullptr)) gone();
}

void HttpConnection::read_head() {
  state_ = State::kReading;
  answered_ = is_stream_ = is_head_ = false;
  keep_alive_ = false;
  path_ = "other";
  parser_.emplace();
  parser_->header_limit(kMaxHeadBytes);
  parser_->body_limit(static_cast<uint64_t>(shared_.config.max_body_bytes));
  arm(read_deadline_, shared_.config.request_timeout_s);
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](const error_code& error, size_t) {
                            if (self->state_ == State::kClosed) return;
                            error ? self->on_bad_request(error) : self->on_head();
                          });
}

void HttpConnection::on_head() {
  const auto& request = parser_->get();
  is_http_1_1_ = request.version() >= 11;
  is_head_ = request.method() == http::verb::head;
  const std::string path = path_of_target(text_of(request.target()));
  path_ = metric_path(path);
  if (is_http_1_1_ && request.count(http::field::host) != 1)
    return refuse_request(400, "malformed_http",
                          concat("the request has ", request.count(http::field::host),
                                 " Host headers, expected one"));
  std::optional<HttpReply> at_once = shared_.service.answer_head(
      text_of(request.method_string()), path, text_of(request[http::field::authorization]));
  if (at_once) {
    read_deadline_.cancel();
    state_ = State::kAnswering;
    // A body that nobody reads would be taken for the next request.
    keep_alive_ = parser_->keep_alive() && !shared_.draining && !parser_->chunked() &&
                  parser_->content_length().value_or(0) == 0;
    shared_.service.metrics().count_reply(path_, at_once->status);
    reply(std::move(*at_once));
    return fill();
  }
  if (!parser_->chunked() && !parser_->content_length())
    return refuse_request(411, "length_required", "the request has no Content-Length");
  const std::string encoding = text_of(request[http::field::content_encoding]);
  if (!encoding.empty() && encoding != "identity")
    return refuse_request(415, "unsupported_encoding",
                          "the body is compressed, expected no Content-Encoding");
  if (const auto expected = request[http::field::expect]; !expected.empty() && is_http_1_1_) {
    if (!boost::beast::iequals(expected, "100-continue"))
      return refuse_request(417, "unknown_expectation",
                            "the Expect header is unknown, expected 100-continue");
    send("HTTP/1.1 100 Continue\r\n\r\n");
  }
  read_body();
}

void HttpConnection::read_body() {
  http::async_read(socket_, buffer_, *parser_,
                   [self = shared_from_this()](const error_code& error, size_t) {
                     if (self->state_ == State::kClosed) return;
                     error ? self->on_bad_request(error) : self->on_body();
                   });
}

void HttpConnection::on_bad_request(const error_code& error) {
  if (error == http::error::end_of_stream || error == http::error::partial_message ||
      error.category() != http::make_error_code(http::error::bad_method).category())
    return close();
  if (error == http::error::body_limit)
    return refuse_request(413, "body_too_large",
                          concat("the body has more bytes than the ", shared_.config.max_body_bytes,
                                 " that are allowed"));
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return refuse_request(
        431, "head_too_large",
        concat("the request's head has more than the ", kMaxHeadBytes, " bytes that are allowed"));
  refuse_request(400, "malformed_http", concat("the request is not HTTP/1.1: ", error.message()));
}

void HttpConnection::refuse_request(int status, const char* code, const std::string& message) {
  read_deadline_.cancel();
  state_ = State::kAnswering;
  keep_alive_ = false;
  shared_.service.metrics().count_reply(path_, status);
  reply({.status = status, .body = ApiError(status, code, "", message).json()});
}

void HttpConnection::on_body() {
  read_deadline_.cancel();
  state_ = State::kAnswering;
  keep_alive_ = parser_->keep_alive() && !shared_.draining;
  std::string body = std::move(parser_->get().body());
  fill();  // to hear of the client's leaving
  post_aside([self = shared_from_this(), body = std::move(body)]() mutable {
    HttpShared& shared = self->shared_;
    std::shared_ptr<PreparedRequest> prepared;
    std::exception_ptr error;
    try {
      prepared = std::make_shared<PreparedRequest>(shared.service.prepare(self->path_, body));
    } catch (...) {
      error = std::current_exception();
    }
    asio::post(shared.io, [self = std::move(self), prepared = std::move(prepared), error] {
      if (self->state_ == State::kClosed) return;
      if (!error) return self->shared_.service.start(std::move(*prepared), self);
      HttpReply refusal = error_reply(error);
      self->shared_.service.metrics().count_reply(self->path_, refusal.status);
      self->reply(std::move(refusal));
    });
  });
}

void HttpConnection::reply(HttpReply reply) {
  if (state_ == State::kClosed) return;
  std::string bytes = head_of(reply.status, is_http_1_1_, keep_alive_, reply.content_type);
  for (const auto& [name, value] : reply.headers) bytes += concat(name, ": ", value, "\r\n");
  bytes += concat("Content-Length: ", reply.body.size(), "\r\n\r\n");
  if (!is_head_) bytes += reply.body;
  send(std::move(bytes));
  end_answer();
}

void HttpConnection::begin_events() {
  if (state_ == State::kClosed) return;
  is_stream_ = true;
  keep_alive_ = keep_alive_ && is_http_1_1_;
  send(head_of(200, is_http_1_1_, keep_alive_, "text/event-stream; charset=utf-8") +
       (is_http_1_1_ ? "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
                     : "X-Accel-Buffering: no\r\n\r\n"));
}

void HttpConnection::send_event(const std::string& data) {
  if (state_ == State::kClosed) return;
  const std::string event = concat("data: ", data, "\n\n");
  if (!is_http_1_1_) return send(event);
  char size[24];
  std::snprintf(size, sizeof size, "%zx\r\n", event.size());
  send(concat(size, event, "\r\n"));
}

void HttpConnection::end_events() {
  if (state_ == State::kClosed) return;
  if (is_http_1_1_) send("0\r\n\r\n");
  end_answer();
}

void HttpConnection::on_gone(std::function<void()> gone) {
  if (state_ == State::kClosed) return gone();
  if (!answered_) gone_ = std::move(gone);
}

void HttpConnection::post(std::function<void()> work) { asio::post(shared_.io, std::move(work)); }

void HttpConnection::post_aside(std::function<void()> work) {
  asio::post(shared_.aside, std::move(work));
}

void HttpConnection::send(std::string bytes) {
  if (state_ == State::kClosed) return;
  // One event may be larger than the limit: what waits behind others counts.
  if (is_stream_ && waiting_.size() > static_cast<size_t>(shared_.config.max_unsent_bytes)) {
    ++shared_.service.metrics().clients_too_slow;
    return close();
  }
  if (!writing_.empty()) {
    waiting_ += bytes;
    return;
  }
  writing_ = std::move(bytes);
  write_more();
}

void HttpConnection::write_more() {
  arm(write_deadline_, shared_.config.write_timeout_s);
  socket_.async_write_some(asio::buffer(writing_.data() + written_, writing_.size() - written_),
                           [self = shared_from_this()](const error_code& error, size_t bytes) {
                             if (self->state_ != State::kClosed) self->on_written(error, bytes);
                           });
}

void HttpConnection::on_written(const error_code& error, size_t bytes) {
  if (error) return client_left();
  written_ += bytes;
  if (written_ == writing_.size()) {
    writing_ = std::exchange(waiting_, {});
    written_ = 0;
  }
  if (!writing_.empty()) return write_more();
  write_deadline_.cancel();
  if (answered_) after_answer();
}

void HttpConnection::end_answer() {
  if (state_ == State::kClosed) return;
  answered_ = true;
  gone_ = nullptr;
  if (writing_.empty()) after_answer();
}

void HttpConnection::after_answer() {
  parser_.reset();
  if (!keep_alive_ || shared_.draining) {
    // Closing at once would throw away what the client has not read yet.
    state_ = State::kLingering;
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    buffer_.consume(buffer_.size());
    arm(read_deadline_, kLingerSeconds);
    return fill();
  }
  state_ = State::kIdle;
  arm(read_deadline_, shared_.config.idle_timeout_s);
  // A read that is under way becomes the beginning of the next request, unless that is there.
  if (buffer_.size() == 0) return fill();
  if (!filling_) return read_head();
  error_code ignored;
  socket_.cancel(ignored);
}

}  // namespace moerl::openai
