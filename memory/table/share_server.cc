#include "memory/table/share_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iterator>
#include <utility>

namespace engram::memory {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxClients = 512;
constexpr int kBacklog = 128;
// A client that has attached nothing and says nothing makes room after this time.
constexpr std::chrono::seconds kIdleLimit{10};
constexpr int kPollMs = 1000;

// The lock says whether a daemon lives; holding it, whatever lies at the path is a leftover.
Result<Descriptor> lock_path(const std::string& path) {
  const std::string name = path + ".lock";
  Descriptor lock(open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.open()) return failed_precondition(name + ": " + std::strerror(errno));
  if (flock(lock.number(), LOCK_EX | LOCK_NB) != 0) {
    return failed_precondition(path + ": another table daemon serves there");
  }
  return lock;
}

Status remove_leftover(const std::string& path) {
  struct stat file {};
  if (lstat(path.c_str(), &file) != 0) return Status();
  if (!S_ISSOCK(file.st_mode)) {
    return failed_precondition(path + ": exists and is not a socket");
  }
  if (unlink(path.c_str()) == 0) return Status();
  return failed_precondition(path + ": cannot be replaced: " + std::strerror(errno));
}

uint8_t percent(double share) {
  return static_cast<uint8_t>(std::clamp<long>(std::lround(100. * share), 0, 100));
}

}  // namespace

struct ShareServer::Client {
  Descriptor socket;
  Clock::time_point heard;
  std::vector<int> attached;  // numbers of tables, each once
};

Result<std::unique_ptr<ShareServer>> ShareServer::listen(const std::string& path, unsigned mode) {
  const Result<sockaddr_un> address = share_address(path);
  if (!address.ok()) return address.status();
  Result<Descriptor> lock = lock_path(path);
  if (!lock.ok()) return lock.status();
  ENGRAM_RETURN_IF_ERROR(remove_leftover(path));
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.open()) return internal(std::string("no socket: ") + std::strerror(errno));
  // The file is never open to more than it should be, not even for a moment.
  const mode_t before = umask(static_cast<mode_t>(~mode & 0777));
  const int bound = bind(
      socket.number(), reinterpret_cast<const sockaddr*>(&address.value()), sizeof(sockaddr_un));
  const int reason = errno;
  umask(before);
  if (bound != 0) return failed_precondition(path + ": " + std::strerror(reason));
  std::unique_ptr<ShareServer> server(
      new ShareServer(path, std::move(lock).value(), std::move(socket)));
  if (::listen(server->socket_.number(), kBacklog) != 0) {
    return internal(path + ": " + std::strerror(errno));
  }
  return server;
}

ShareServer::ShareServer(std::string path, Descriptor lock, Descriptor socket)
    : path_(std::move(path)), lock_(std::move(lock)), socket_(std::move(socket)) {}

ShareServer::~ShareServer() {
  unlink(path_.c_str());
}

int ShareServer::add(
    const std::string& path, const std::string& header, const std::string& id, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mu_);
  Table table;
  table.entry.index = static_cast<uint32_t>(tables_.size());
  table.entry.bytes_total = bytes;
  table.entry.header = header;
  table.entry.path = path;
  table.id = id;
  table.attach = ShareLoading{0, bytes};
  tables_.push_back(std::move(table));
  for (Table& each : tables_) each.entry.count = static_cast<uint32_t>(tables_.size());
  return static_cast<int>(tables_.size()) - 1;
}

void ShareServer::set_progress(int table, int64_t bytes_done) {
  const std::lock_guard<std::mutex> lock(mu_);
  Table& t = tables_[static_cast<size_t>(table)];
  if (t.entry.state != ShareState::kLoading) return;
  t.entry.bytes_done = bytes_done;
  t.attach = ShareLoading{bytes_done, t.entry.bytes_total};
}

void ShareServer::set_ready(int table, const TableMemory* memory) {
  const ArenaReport report = memory->report();
  const std::lock_guard<std::mutex> lock(mu_);
  Table& t = tables_[static_cast<size_t>(table)];
  t.entry.state = ShareState::kReady;
  t.entry.pages = report.pages;
  t.entry.huge_percent = percent(report.huge_share);
  t.entry.bytes_done = t.entry.bytes_total;
  ShareTable reply{t.entry.header, {}};
  for (int i = 0; i < memory->copies(); ++i) {
    reply.copies.push_back(
        {memory->copy_node(i), memory->copy_pages(i), percent(memory->copy_huge_share(i)),
         memory->mapped_bytes(i)});
    t.descriptors.push_back(memory->descriptor(i));
  }
  t.attach = std::move(reply);
}

void ShareServer::set_failed(int table, const Status& status) {
  const std::lock_guard<std::mutex> lock(mu_);
  Table& t = tables_[static_cast<size_t>(table)];
  t.entry.state = ShareState::kFailed;
  t.entry.error = status.to_string();
  t.attach = status;
}

void ShareServer::run(int stop) {
  std::vector<pollfd> waiting;
  for (;;) {
    waiting.clear();
    waiting.push_back({stop, POLLIN, 0});
    waiting.push_back({accepting_ ? socket_.number() : -1, POLLIN, 0});
    for (const Client& client : clients_) waiting.push_back({client.socket.number(), POLLIN, 0});
    accepting_ = true;
    if (poll(waiting.data(), waiting.size(), kPollMs) < 0) continue;
    if (waiting[0].revents != 0) return;
    // One message of each client per round: nobody can keep the others waiting.
    size_t place = 2;
    for (auto client = clients_.begin(); client != clients_.end(); ++place) {
      const bool over = waiting[place].revents != 0 && !serve(*client);
      if (over) release(*client);
      client = over ? clients_.erase(client) : std::next(client);
    }
    if (waiting[1].revents != 0) accept_clients();
    drop_idle_clients();
  }
}

void ShareServer::accept_clients() {
  for (;;) {
    Client client;
    client.socket =
        Descriptor(accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client.socket.open()) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) accepting_ = false;
      return;
    }
    if (clients_.size() >= kMaxClients) {
      send(
          client,
          unavailable("the table daemon has " + std::to_string(kMaxClients) + " clients already"),
          {});
      continue;
    }
    client.heard = Clock::now();
    clients_.push_back(std::move(client));
  }
}

bool ShareServer::serve(Client& client) {
  ReceivedMessage message;
  // A client's own descriptors are dropped by the kernel.
  if (!receive_message(client.socket.number(), MSG_DONTWAIT, false, &message)) {
    return errno == EAGAIN;
  }
  if (message.bytes.empty()) return false;
  client.heard = Clock::now();
  const Result<ShareRequest> request =
      message.cut ? invalid_argument("message: longer than the protocol has")
                  : decode_share_request(message.bytes);
  if (request.ok()) return answer(client, request.value());
  send(client, request.status(), {});
  return false;
}

bool ShareServer::answer(Client& client, const ShareRequest& request) {
  if (const AttachRequest* attach = std::get_if<AttachRequest>(&request)) {
    return answer_attach(client, attach->id);
  }
  const uint32_t index = std::get<ListRequest>(request).index;
  ShareReply reply;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    if (index < tables_.size()) {
      reply = tables_[index].entry;
    } else {
      reply = not_found("there are " + std::to_string(tables_.size()) + " tables");
    }
  }
  return send(client, reply, {});
}

bool ShareServer::answer_attach(Client& client, const std::string& id) {
  const std::lock_guard<std::mutex> lock(mu_);  // sending does not wait
  std::string known;
  for (size_t i = 0; i < tables_.size(); ++i) {
    Table& table = tables_[i];
    if (!known.empty()) known += ", ";
    known += table.id;
    if (table.id != id) continue;
    if (!send(client, table.attach, table.descriptors)) return false;
    const int number = static_cast<int>(i);
    const bool holds =
        std::find(client.attached.begin(), client.attached.end(), number) != client.attached.end();
    if (table.entry.state == ShareState::kReady && !holds) {
      client.attached.push_back(number);
      ++table.entry.attached;
    }
    return true;
  }
  return send(
      client, not_found("no table " + id + "; there are " + (known.empty() ? "none" : known)), {});
}

bool ShareServer::send(Client& client, const ShareReply& reply, std::span<const int> descriptors) {
  // A client that does not read its answers fills its own buffer and is dropped.
  return send_message(client.socket.number(), encode_share_reply(reply), descriptors);
}

void ShareServer::drop_idle_clients() {
  const Clock::time_point now = Clock::now();
  for (auto client = clients_.begin(); client != clients_.end();) {
    const bool idle = client->attached.empty() && now - client->heard > kIdleLimit;
    client = idle ? clients_.erase(client) : std::next(client);
  }
}

void ShareServer::release(const Client& client) {
  const std::lock_guard<std::mutex> lock(mu_);
  for (const int number : client.attached) --tables_[static_cast<size_t>(number)].entry.attached;
}

}  // namespace engram::memory
