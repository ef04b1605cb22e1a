#pragma once
// Boost.Beast: included by http_connection.cc and http_server.cc alone.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "experiments/openai/http_server.h"

namespace moerl::openai {

class HttpConnection;

/// What the connections of a server share; touched on the server's thread only.
struct HttpShared {
  Service& service;
  const HttpServerConfig config;
  boost::asio::io_context io{1};     ///< all input and output
  boost::asio::io_context aside{1};  ///< what takes long: reading bodies, writing whole answers
  bool draining = false;
  std::set<HttpConnection*> connections;
};

/// One client's connection: reads requests one after another and carries their answers.
class HttpConnection : public Exchange, public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(HttpShared& shared, boost::asio::ip::tcp::socket socket);

  void start();
  /// Answers with 503 before anything was asked, and closes.
  void refuse();
  bool is_idle() const { return state_ == State::kIdle; }
  /// Cuts the connection; whoever answers is told that the client is gone.
  void close();

  void reply(HttpReply reply) override;
  void begin_events() override;
  void send_event(const std::string& data) override;
  void end_events() override;
  void on_gone(std::function<void()> gone) override;
  void post(std::function<void()> work) override;
  void post_aside(std::function<void()> work) override;

 private:
  enum class State {
    kIdle,       ///< between requests
    kReading,    ///< a request arrives
    kAnswering,  ///< a request is at work, or its answer is being sent
    kLingering,  ///< all is sent; what the client still sends is thrown away
    kClosed,
  };
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  void fill();
  void on_filled(const boost::system::error_code& error, size_t bytes);
  void read_head();
  void on_head();
  void read_body();
  void on_body();
  void on_bad_request(const boost::system::error_code& error);
  void refuse_request(int status, const char* code, const std::string& message);
  void send(std::string bytes);
  void write_more();
  void on_written(const boost::system::error_code& error, size_t bytes);
  void end_answer();
  void after_answer();
  void arm(boost::asio::steady_timer& timer, double seconds);
  void client_left();

  HttpShared& shared_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer read_deadline_, write_deadline_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  State state_ = State::kIdle;
  bool filling_ = false;     // a read into buffer_ is under way
  bool keep_alive_ = false;  // after the present request
  bool is_http_1_1_ = true, is_head_ = false, is_stream_ = false;
  bool answered_ = false;  // all of the answer is on its way or sent
  std::string path_;
  std::string writing_, waiting_;  // the system takes the first; the other comes after it
  size_t written_ = 0;             // bytes of writing_
  size_t discarded_ = 0;
  std::function<void()> gone_;
};

}  // namespace moerl::openai
