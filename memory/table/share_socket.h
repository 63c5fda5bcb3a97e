// Sockets of type AF_UNIX, SOCK_SEQPACKET: addresses, messages with file descriptors. Any thread.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "memory/base/status.h"

namespace engram::memory {

// Owns a file descriptor. Move-only.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();

  int number() const { return number_; }
  bool open() const { return number_ >= 0; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_ = -1;
};

// INVALID_ARGUMENT when the path is empty or longer than the system allows.
Result<sockaddr_un> share_address(const std::string& path);

// Sends one message, `descriptors` beside it, without waiting and without a signal. False: errno.
bool send_message(int socket, const std::string& message, std::span<const int> descriptors);

struct ReceivedMessage {
  std::vector<uint8_t> bytes;  // empty: the other side has closed
  std::vector<Descriptor> descriptors;
  bool cut = false;  // it was longer than a message may be, or had too many descriptors
};

// Receives one message; `flags` as MSG_DONTWAIT. Without `with_descriptors` the kernel drops those
// that came beside it. False: errno.
bool receive_message(int socket, int flags, bool with_descriptors, ReceivedMessage* message);

}  // namespace engram::memory
