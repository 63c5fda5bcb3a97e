// The least client that speaks gRPC: one blocking socket, one call at a time, no threads, no
// timers. What it measures is the server and the kernel, not a client library.
//
// HTTP/2 (RFC 9113) with literal header fields (RFC 7541, 6.2.2). Anything unexpected ends the
// benchmark.
#pragma once

#include <cstdint>
#include <string>

namespace engram::bench {

// A connected TCP socket without Nagle's delay.
int connect_to(int port);

class Http2Client {
 public:
  explicit Http2Client(int port);
  ~Http2Client();
  Http2Client(const Http2Client&) = delete;
  Http2Client& operator=(const Http2Client&) = delete;

  // Sends `message`, a serialized request, to `path`, such as "/engram.v1.Completions/Complete",
  // and returns when the stream has ended. Milliseconds until its first message was here.
  double call(const std::string& path, const std::string& message);

 private:
  struct Frame {
    uint8_t type = 0;
    uint8_t flags = 0;
    uint32_t stream = 0;
    std::string payload;
  };

  void read_exactly(void* to, size_t bytes);
  Frame read_frame();
  void answer(const Frame& frame);

  int socket_ = -1;
  uint32_t next_stream_ = 1;
};

}  // namespace engram::bench
