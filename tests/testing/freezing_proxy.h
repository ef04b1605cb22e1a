#pragma once
#include <boost/asio.hpp>
#include <memory>
#include <string>
#include <thread>

namespace moerl::testing {

/// A TCP proxy on loopback that can stop passing bytes on while its connections stay open: what
/// either side sees when the machine at the other end loses power or freezes.
class FreezingProxy {
 public:
  /// Passes connections on to 127.0.0.1:`target_port`.
  explicit FreezingProxy(int target_port)
      : target_(Address::from_string("127.0.0.1"), static_cast<uint16_t>(target_port)),
        acceptor_(io_, {Address::from_string("127.0.0.1"), 0}) {
    accept();
    thread_ = std::thread([this] { io_.run(); });
  }
  ~FreezingProxy() {
    io_.stop();
    thread_.join();
  }

  std::string address() const {
    return "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
  }
  /// Nothing passes any more.
  void freeze() { io_.stop(); }

 private:
  using Address = boost::asio::ip::address;
  using Socket = boost::asio::ip::tcp::socket;

  struct Pipe {
    Socket client, server;
    std::array<char, 1 << 14> up, down;
  };

  void accept() {
    auto pipe = std::make_shared<Pipe>(Pipe{Socket(io_), Socket(io_), {}, {}});
    acceptor_.async_accept(pipe->client, [this, pipe](boost::system::error_code error) {
      if (error) return;
      pipe->server.connect(target_, error);
      if (!error) {
        pump(pipe, pipe->client, pipe->server, pipe->up);
        pump(pipe, pipe->server, pipe->client, pipe->down);
      }
      accept();
    });
  }

  void pump(const std::shared_ptr<Pipe>& pipe, Socket& from, Socket& to,
            std::array<char, 1 << 14>& buffer) {
    from.async_read_some(
        boost::asio::buffer(buffer),
        [this, pipe, &from, &to, &buffer](boost::system::error_code error, size_t size) {
          if (!error) boost::asio::write(to, boost::asio::buffer(buffer.data(), size), error);
          if (!error) return pump(pipe, from, to, buffer);
          pipe->client.close(error);
          pipe->server.close(error);
        });
  }

  boost::asio::io_context io_;
  const boost::asio::ip::tcp::endpoint target_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::thread thread_;
};

}  // namespace moerl::testing
