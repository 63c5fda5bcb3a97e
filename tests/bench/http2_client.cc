#include "tests/bench/http2_client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "tests/bench/server_process.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint8_t kData = 0;
constexpr uint8_t kHeaders = 1;
constexpr uint8_t kResetStream = 3;
constexpr uint8_t kSettings = 4;
constexpr uint8_t kPing = 6;
constexpr uint8_t kGoAway = 7;
constexpr uint8_t kWindowUpdate = 8;
constexpr uint8_t kAck = 1;
constexpr uint8_t kEndStream = 1;
constexpr uint8_t kEndHeaders = 4;
constexpr uint32_t kWindowBytes = 1 << 30;
// Places in HPACK's static table.
constexpr char kMethodPost = '\x83';
constexpr char kSchemeHttp = '\x86';
constexpr char kPathName = '\x04';
constexpr char kAuthorityName = '\x01';

std::string big_endian(uint32_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

std::string frame_text(uint8_t type, uint8_t flags, uint32_t stream, const std::string& payload) {
  return big_endian(static_cast<uint32_t>(payload.size()), 3) + static_cast<char>(type) +
         static_cast<char>(flags) + big_endian(stream, 4) + payload;
}

// Strings below 127 bytes, so that a length is one byte.
std::string short_string(const std::string& text) {
  return static_cast<char>(text.size()) + text;
}

std::string request_headers(const std::string& path) {
  std::string block = {kMethodPost, kSchemeHttp};
  block += kPathName + short_string(path);
  block += kAuthorityName + short_string("localhost");
  block += '\0' + short_string("content-type") + short_string("application/grpc");
  block += '\0' + short_string("te") + short_string("trailers");
  return block;
}

void send_all(int socket, const std::string& bytes) {
  if (send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(bytes.size())) {
    fail("the server closed the connection");
  }
}

}  // namespace

int connect_to(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    fail("no connection to port " + std::to_string(port));
  }
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return socket;
}

Http2Client::Http2Client(int port) : socket_(connect_to(port)) {
  send_all(
      socket_, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame_text(kSettings, 0, 0, "") +
                   frame_text(kWindowUpdate, 0, 0, big_endian(kWindowBytes, 4)));
}

Http2Client::~Http2Client() {
  close(socket_);
}

void Http2Client::read_exactly(void* to, size_t bytes) {
  if (recv(socket_, to, bytes, MSG_WAITALL) != static_cast<ssize_t>(bytes)) {
    fail("the server closed the connection");
  }
}

Http2Client::Frame Http2Client::read_frame() {
  uint8_t head[9];
  read_exactly(head, sizeof(head));
  Frame frame;
  frame.payload.resize(static_cast<size_t>(head[0] << 16 | head[1] << 8 | head[2]));
  frame.type = head[3];
  frame.flags = head[4];
  frame.stream = static_cast<uint32_t>(head[5] & 0x7f) << 24 |
                 static_cast<uint32_t>(head[6] << 16 | head[7] << 8 | head[8]);
  if (!frame.payload.empty()) read_exactly(frame.payload.data(), frame.payload.size());
  return frame;
}

// What HTTP/2 wants to be answered.
void Http2Client::answer(const Frame& frame) {
  if (frame.type == kGoAway || frame.type == kResetStream) fail("the server refused a call");
  if ((frame.flags & kAck) != 0) return;
  if (frame.type == kSettings) send_all(socket_, frame_text(kSettings, kAck, 0, ""));
  if (frame.type == kPing) send_all(socket_, frame_text(kPing, kAck, 0, frame.payload));
}

double Http2Client::call(const std::string& path, const std::string& message) {
  const uint32_t stream = next_stream_;
  next_stream_ += 2;
  const std::string length = big_endian(static_cast<uint32_t>(message.size()), 4);
  const Clock::time_point begin = Clock::now();
  send_all(
      socket_, frame_text(kHeaders, kEndHeaders, stream, request_headers(path)) +
                   frame_text(kData, kEndStream, stream, '\0' + length + message));
  double first_ms = -1;
  while (true) {
    const Frame frame = read_frame();
    if (frame.stream == 0 || frame.type == kResetStream) answer(frame);
    if (frame.stream != stream) continue;
    if (frame.type == kData && first_ms < 0) {
      first_ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    }
    if ((frame.type != kData && frame.type != kHeaders) || (frame.flags & kEndStream) == 0) {
      continue;
    }
    if (first_ms < 0) fail("a call ended without a message");
    return first_ms;
  }
}

}  // namespace engram::bench
