#include "experiments/openai/http_server.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <charconv>
#include <condition_variable>
#include <future>
#include <thread>

#include "common/check.h"
#include "experiments/openai/http_connection.h"

namespace moerl::openai {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr auto kAcceptRetry = std::chrono::milliseconds(100);
constexpr auto kFlushTime = std::chrono::seconds(2);

/// @throws IoError naming the address.
tcp::endpoint endpoint_of(asio::io_context& io, const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  uint16_t number = 0;
  const auto [end, parse_error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (host.empty() || port.empty() || parse_error != std::errc() ||
      end != port.data() + port.size())
    throw IoError(concat("the address is '", address, "', expected host:port"));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  error_code error;
  const auto found = tcp::resolver(io).resolve(host, port, error);
  if (error || found.empty())
    throw IoError(concat("the address '", address, "' has an unknown host: ", error.message()));
  return found.begin()->endpoint();
}

}  // namespace

struct HttpServer::Impl {
  Impl(Service& service, const HttpServerConfig& config)
      : shared{.service = service, .config = config}, acceptor(shared.io), retry(shared.io) {
    const tcp::endpoint endpoint = endpoint_of(shared.io, config.address);
    try {
      acceptor.open(endpoint.protocol());
      acceptor.set_option(tcp::acceptor::reuse_address(true));
      acceptor.bind(endpoint);
      acceptor.listen(1024);
    } catch (const boost::system::system_error& error) {
      throw IoError(concat("cannot listen on ", config.address, ": ", error.code().message()));
    }
    accept();
    io_thread = std::thread([this] { shared.io.run(); });
    aside_thread = std::thread([this] { shared.aside.run(); });
  }

  void accept() {
    acceptor.async_accept([this](const error_code& error, tcp::socket socket) {
      if (shared.draining) return;
      if (error) {  // such as too many open files: others will be closed
        retry.expires_after(kAcceptRetry);
        retry.async_wait([this](const error_code& cancelled) {
          if (!cancelled) accept();
        });
        return;
      }
      const auto open = static_cast<int64_t>(shared.connections.size());
      const auto connection = std::make_shared<HttpConnection>(shared, std::move(socket));
      // Twice as many may be told so; beyond that there is no time for manners.
      if (open < shared.config.max_connections)
        connection->start();
      else if (open < 2 * shared.config.max_connections)
        connection->refuse();
      accept();
    });
  }

  /// Runs `work` on the server's thread and waits for it.
  void on_io(const std::function<void()>& work) {
    std::promise<void> done;
    asio::post(shared.io, [&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  void begin_drain() {
    shared.draining = true;
    acceptor.close();
    retry.cancel();
    close_idle();
  }
  void close_idle() {
    for (HttpConnection* connection : std::set<HttpConnection*>(shared.connections))
      if (connection->is_idle()) connection->close();
  }
  /// Whether all requests were answered in time.
  bool wait_for_answers(std::chrono::steady_clock::time_point deadline) {
    while (true) {
      size_t open = 0;
      on_io([&] {
        close_idle();
        open = shared.connections.size();
      });
      if (open == 0) return true;
      if (std::chrono::steady_clock::now() >= deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  HttpShared shared;
  tcp::acceptor acceptor;
  asio::steady_timer retry;
  asio::executor_work_guard<asio::io_context::executor_type> io_work{shared.io.get_executor()},
      aside_work{shared.aside.get_executor()};
  std::thread io_thread, aside_thread;
};

HttpServer::HttpServer(Service& service, const HttpServerConfig& config)
    : impl_(std::make_unique<Impl>(service, config)) {}

HttpServer::~HttpServer() { shutdown(0); }

int HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

void HttpServer::shutdown(double drain_s) {
  if (!impl_->io_thread.joinable()) return;
  Impl& impl = *impl_;
  impl.shared.service.drain();
  impl.on_io([&] { impl.begin_drain(); });
  const auto now = std::chrono::steady_clock::now();
  const auto drain = std::chrono::milliseconds(static_cast<int64_t>(drain_s * 1000));
  const bool all_answered = impl.wait_for_answers(now + drain);
  impl.shared.service.stop();
  // What was ended so is told, if its client listens.
  if (!all_answered) impl.wait_for_answers(std::chrono::steady_clock::now() + kFlushTime);
  impl.on_io([&] {
    for (HttpConnection* connection : std::set<HttpConnection*>(impl.shared.connections))
      connection->close();
  });
  impl.shared.aside.stop();
  impl.aside_thread.join();
  impl.shared.io.stop();
  impl.io_thread.join();
}

}  // namespace moerl::openai
