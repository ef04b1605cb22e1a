#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "experiments/openai/service.h"

namespace moerl::openai {

struct HttpServerConfig {
  std::string address = "127.0.0.1:8000";  ///< host:port; port 0 picks one
  int64_t max_body_bytes = int64_t{4} << 20;
  int64_t max_connections = 1024;
  int64_t max_unsent_bytes = int64_t{1} << 20;  ///< of a stream that its client does not read
  double request_timeout_s = 30;                ///< for a request to arrive, head and body
  double idle_timeout_s = 75;                   ///< between requests of a connection
  double write_timeout_s = 30;                  ///< for a client to take anything at all
};

/// Serves a Service over HTTP/1.1 (Boost.Beast): keep-alive, chunked requests, server-sent events.
/// One thread does all input and output, another one reads requests' bodies and writes whole
/// answers, so no client and no long prompt holds up the streams of others. A client that closes
/// its connection, or half of it, has left: its request is cancelled. Plain HTTP; TLS is a proxy's
/// business.
class HttpServer {
 public:
  /// Binds and starts. The service is borrowed.
  /// @throws IoError if the address is malformed or cannot be bound.
  HttpServer(Service& service, const HttpServerConfig& config);
  /// As shutdown(0).
  ~HttpServer();

  int port() const;
  /// Accepts nothing more, refuses further requests with 503, gives those at work `drain_s` seconds
  /// and then ends them, the service too.
  void shutdown(double drain_s);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moerl::openai
