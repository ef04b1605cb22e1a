#pragma once
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

namespace moerl::rpc {

/// A peer that answers no ping is given up: the calls to it end with UNAVAILABLE, those from it are
/// cancelled. Without it a machine that lost its power or froze would be waited for until each
/// call's deadline.
struct KeepAlive {
  int period_ms = 20'000;   ///< of silence before a ping
  int timeout_ms = 10'000;  ///< for its answer
};

/// A running gRPC server with the health service, reflection when it listens on a port, and
/// keep-alive.
class Server {
 public:
  /// @param services  borrowed; must outlive the server.
  /// @param address   "host:port" (port 0 picks a free one), or "" for in-process channels only.
  /// @throws RpcError if the address cannot be bound.
  Server(const std::vector<grpc::Service*>& services, const std::string& address,
         const KeepAlive& keep_alive = {});
  ~Server();

  /// A channel into this server that leaves out the network.
  std::shared_ptr<grpc::Channel> in_process_channel();
  /// The port that was bound; 0 without an address.
  int port() const { return port_; }
  /// Blocks until shutdown() is called.
  void wait();
  /// Refuses new calls, gives running ones `grace_ms` milliseconds, then cancels them.
  void shutdown(int grace_ms = 1000);

 private:
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

/// A channel to "host:port" with keep-alive and without message size limits.
std::shared_ptr<grpc::Channel> connect(const std::string& address,
                                       const KeepAlive& keep_alive = {});

}  // namespace moerl::rpc
