#pragma once
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

namespace moerl::rpc {

/// A running gRPC server with the health service, and reflection when it listens on a port.
class Server {
 public:
  /// @param services  borrowed; must outlive the server.
  /// @param address   "host:port" (port 0 picks a free one), or "" for in-process channels only.
  /// @throws RpcError if the address cannot be bound.
  Server(const std::vector<grpc::Service*>& services, const std::string& address);
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
std::shared_ptr<grpc::Channel> connect(const std::string& address);

}  // namespace moerl::rpc
