#include "memory/table/share_socket.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "memory/table/share_protocol.h"

namespace engram::memory {

Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

Result<sockaddr_un> share_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return invalid_argument(
        "socket path: 1 to " + std::to_string(sizeof address.sun_path - 1) +
        " bytes expected, found " + std::to_string(path.size()) + ": " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool send_message(int socket, const std::string& message, std::span<const int> descriptors) {
  ENGRAM_CHECK(descriptors.size() <= kShareCopies);
  iovec part{const_cast<char*>(message.data()), message.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kShareCopies * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(message.size());
}

bool receive_message(int socket, int flags, bool with_descriptors, ReceivedMessage* message) {
  message->bytes.resize(kShareMessageLimit);
  message->descriptors.clear();
  iovec part{message->bytes.data(), message->bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kShareCopies * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (with_descriptors) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
  }
  ssize_t received = 0;
  do {
    received = recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return false;
  message->bytes.resize(static_cast<size_t>(received));
  message->cut = (header.msg_flags & MSG_TRUNC) != 0 ||
                 (with_descriptors && (header.msg_flags & MSG_CTRUNC) != 0);
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(c) + i * sizeof(int), sizeof number);
      message->descriptors.emplace_back(number);
    }
  }
  return true;
}

}  // namespace engram::memory
