#pragma once
// A small HTTP/1.1 client over plain sockets, which can also misbehave.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/json.h"

namespace moerl::testing {

struct HttpAnswer {
  int status = 0;
  std::string head, body;  ///< the body without its chunks' frames
  nlohmann::json json() const { return parse_json(body); }
  /// Data of the server-sent events, [DONE] included.
  std::vector<std::string> events() const {
    std::vector<std::string> list;
    for (size_t at = 0; (at = body.find("data: ", at)) != std::string::npos;) {
      const size_t end = body.find("\n\n", at);
      list.push_back(body.substr(at + 6, end - at - 6));
      at = end;
    }
    return list;
  }
};

/// One connection. What takes longer than 30 s throws std::runtime_error.
class HttpClient {
 public:
  /// @param receive_bytes  size of the socket's buffer; 0: the system's.
  explicit HttpClient(int port, int receive_bytes = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_bytes > 0)
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    const timeval patience{.tv_sec = 30, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
      throw std::runtime_error("cannot connect");
  }
  ~HttpClient() { leave(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void leave() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  /// False: the server has closed.
  bool send(const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t n = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (n <= 0) return false;
      at += static_cast<size_t>(n);
    }
    return true;
  }
  void end_of_sending() { ::shutdown(fd_, SHUT_WR); }

  static std::string post(const std::string& path, const std::string& body,
                          const std::string& headers = {}) {
    return "POST " + path +
           " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
           headers + "\r\n" + body;
  }
  static std::string get(const std::string& path, const std::string& headers = {}) {
    return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n";
  }
  HttpAnswer ask(const std::string& request) {
    send(request);
    return read();
  }
  /// The next answer. Status 0: the server closed without one.
  HttpAnswer read() {
    HttpAnswer answer;
    if (!read_until("\r\n\r\n")) return answer;
    answer.head = take(buffer_.find("\r\n\r\n") + 4);
    answer.status = std::atoi(answer.head.substr(9, 3).c_str());
    if (answer.head.find("Transfer-Encoding: chunked") != std::string::npos) {
      while (read_until("\r\n")) {
        const size_t size = std::stoul(take(buffer_.find("\r\n") + 2), nullptr, 16);
        if (!read_bytes(size + 2)) break;
        answer.body += take(size + 2).substr(0, size);
        if (size == 0) break;
      }
    } else if (const size_t at = answer.head.find("Content-Length: "); at != std::string::npos) {
      const size_t size = std::stoul(answer.head.substr(at + 16));
      if (read_bytes(size)) answer.body = take(size);
    }
    return answer;
  }
  /// Reads until the text has come. False: the server closed before.
  bool read_until(const std::string& text) {
    while (buffer_.find(text) == std::string::npos)
      if (!receive()) return false;
    return true;
  }
  /// All that the server sends until it closes.
  std::string rest() {
    while (receive()) {
    }
    return take(buffer_.size());
  }
  /// Whether the server closes before it sends anything more.
  bool is_closed() { return buffer_.empty() && !receive(); }

 private:
  bool read_bytes(size_t n) {
    while (buffer_.size() < n)
      if (!receive()) return false;
    return true;
  }
  bool receive() {
    char bytes[65536];
    const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      throw std::runtime_error("no answer within 30 s");
    if (n > 0) buffer_.append(bytes, static_cast<size_t>(n));
    return n > 0;
  }
  std::string take(size_t n) {
    std::string head = buffer_.substr(0, n);
    buffer_.erase(0, n);
    return head;
  }

  int fd_;
  std::string buffer_;
};

}  // namespace moerl::testing
