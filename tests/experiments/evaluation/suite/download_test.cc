#include "experiments/evaluation/suite/download.h"

#include <gtest/gtest.h>

#include <boost/asio.hpp>
#include <thread>

#include "common/file.h"
#include "common/sha256.h"
#include "experiments/evaluation/suite/data_cache.h"
#include "testing/paths.h"
#include "tests/experiments/temporary_directory.h"

namespace moerl::eval {
namespace {

using boost::asio::ip::tcp;
using moerl::testing::error_of;
using moerl::testing::TemporaryDirectory;

/// Answers each connection on a loopback port with bytes that the request's path chooses.
class TinyHttpServer {
 public:
  /// The whole answer; then the connection is closed, unless the answer is empty: then it hangs.
  using Answer = std::function<std::string(const std::string& path)>;

  explicit TinyHttpServer(Answer answer)
      : answer_(std::move(answer)),
        acceptor_(context_, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0)),
        thread_([this] { serve(); }) {}
  ~TinyHttpServer() {
    is_ending_ = true;
    boost::system::error_code ignored;
    tcp::socket(context_).connect(acceptor_.local_endpoint(), ignored);
    thread_.join();
  }
  std::string url(const std::string& path) const {
    return "http://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()) + path;
  }

 private:
  void serve() {
    std::vector<tcp::socket> hanging;
    while (true) {
      tcp::socket socket(context_);
      acceptor_.accept(socket);
      if (is_ending_) return;
      boost::system::error_code ignored;
      std::string request;
      boost::asio::read_until(socket, boost::asio::dynamic_buffer(request), "\r\n\r\n", ignored);
      const size_t begin = request.find(' ') + 1;
      const std::string answer = answer_(request.substr(begin, request.find(' ', begin) - begin));
      boost::asio::write(socket, boost::asio::buffer(answer), ignored);
      if (answer.empty()) hanging.push_back(std::move(socket));
    }
  }

  Answer answer_;
  std::atomic<bool> is_ending_ = false;
  boost::asio::io_context context_;
  tcp::acceptor acceptor_;
  std::thread thread_;
};

std::string ok(const std::string& body, size_t length) {
  return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(length) +
         "\r\n\r\n" + body;
}

class DownloadTest : public ::testing::Test {
 protected:
  std::string answer(const std::string& path) {
    const std::string redirect = "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\n";
    if (path == "/file") return ok(body_, body_.size());
    if (path == "/moved") return redirect + "Location: /file\r\n\r\n";
    if (path == "/loop") return redirect + "Location: /loop\r\n\r\n";
    if (path == "/local") return redirect + "Location: file:///etc/passwd\r\n\r\n";
    if (path == "/cut") return ok(body_.substr(0, 100), body_.size());
    if (path == "/unsized") return "HTTP/1.0 200 OK\r\n\r\n" + body_;
    if (path == "/hang") return "";
    return "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngone";
  }
  void get(const std::string& path, const DownloadLimits& limits = {}) {
    download(server_.url(path), target_, sha256(body_), limits);
  }
  /// The error of a download, after which an older file is as it was and nothing lies beside it.
  std::string error(const std::string& path, const DownloadLimits& limits = {}) {
    write_file_atomic(target_, "old");
    const std::string text = error_of<IoError>([&] { get(path, limits); });
    EXPECT_EQ(read_file(target_), "old") << path;
    EXPECT_FALSE(std::filesystem::exists(target_.string() + ".part")) << path;
    EXPECT_NE(text.find(server_.url(path)), std::string::npos) << text;
    return text;
  }

  std::string body_ = std::string(100'000, 'x') + "end";
  TemporaryDirectory folder_;
  std::filesystem::path target_ = folder_.path() / "file";
  TinyHttpServer server_{[this](const std::string& path) { return answer(path); }};
};

TEST_F(DownloadTest, AWholeFileReplacesAnOlderOneAndTheRestOfAKilledDownload) {
  folder_.write("file.part", std::string(200'000, 'y'));
  for (const char* path : {"/file", "/moved", "/unsized"}) {
    write_file_atomic(target_, "old");
    get(path);
    EXPECT_EQ(read_file(target_), body_) << path;
    EXPECT_FALSE(std::filesystem::exists(target_.string() + ".part")) << path;
  }
}

TEST_F(DownloadTest, WhatIsNotTheFileLeavesNothing) {
  EXPECT_NE(error("/none").find("404"), std::string::npos);
  EXPECT_NE(error("/loop").find("redirects"), std::string::npos);
  EXPECT_NE(error("/local").find("file"), std::string::npos);
  EXPECT_NE(error("/cut").find("cannot download"), std::string::npos);
  for (const char* path : {"/file", "/unsized"})
    EXPECT_NE(error(path, {.max_bytes = 1000}).find("larger than 1000 bytes"), std::string::npos);
  EXPECT_NE(error("/hang", {.total = std::chrono::milliseconds(200)}).find("timed out"),
            std::string::npos);
  const std::string right = sha256(body_);
  body_ += "!";
  const std::string wrong =
      error_of<IoError>([&] { download(server_.url("/file"), target_, right); });
  EXPECT_NE(wrong.find(right), std::string::npos) << wrong;
  EXPECT_NE(wrong.find(sha256(body_)), std::string::npos) << wrong;
}

TEST_F(DownloadTest, TheCacheFetchesOnceAndSaysHowToDoWithoutANetwork) {
  Suite suite;
  suite.name = "small";
  suite.source.file = "rows.jsonl";
  suite.source.sha256 = sha256(body_);
  suite.source.url = server_.url("/file");
  const DataCache cache(folder_.path() / "cache");
  EXPECT_EQ(read_file(cache.get(suite)), body_);
  suite.source.url = server_.url("/none");
  EXPECT_EQ(read_file(cache.get(suite)), body_);
  const DataCache other(folder_.path() / "other");
  const std::string text = error_of<IoError>([&] { other.get(suite); });
  for (const char* part : {"404", "other/rows.jsonl", "moerl data get small --from FILE"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

}  // namespace
}  // namespace moerl::eval
