#include "memory/table/table_share.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>

#include "memory/base/byte_text.h"
#include "memory/device/device_cpu.h"
#include "memory/device/host_pages.h"
#include "memory/table/share_socket.h"
#include "memory/table/table_match.h"

namespace engram::memory {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kAnswerSeconds = 5;
constexpr std::chrono::milliseconds kPollInterval{100};
constexpr uint32_t kMaxTables = 4096;  // that a daemon may claim to have

struct Answer {
  ShareReply reply;
  std::vector<Descriptor> descriptors;
};

bool swappable(PageKind kind) {
  return kind == PageKind::kTransparent || kind == PageKind::kSmall;
}

Result<TableHeader> checked_header(const std::string& bytes, const std::string& name) {
  return decode_table_header({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, name);
}

Status check_wish(
    const std::string& name,
    const TableHeader& header,
    const std::string& id,
    const TableWish& wish) {
  if (header.id != id) {
    return failed_precondition(name + ": table " + id + " wanted, " + header.id + " found");
  }
  const std::string where = name + ", table " + id;
  const Status status = check_table_header(where, header, wish.geometry, wish.token_map_sha256);
  return status.ok() ? status : failed_precondition(status.message());
}

}  // namespace

// One connection to a daemon.
class TableClient {
 public:
  static Result<std::unique_ptr<TableClient>> connect(const std::string& path);

  // Ok with `entries` empty: the daemon has no table.
  Result<std::vector<SharedTable>> list();
  Result<std::shared_ptr<AttachedTable>> attach(
      const std::string& id, const TableWish& wish, const AttachOptions& options);

 private:
  TableClient(std::string path, Descriptor socket)
      : path_(std::move(path)), socket_(std::move(socket)) {}
  // An error that the daemon answers is returned as one.
  Result<Answer> ask(const ShareRequest& request);
  Result<Answer> ask_until_ready(const std::string& id, const AttachOptions& options);
  Status map(const Answer& answer, AttachedTable* table) const;
  Status check_pages(const Descriptor& pages, const ShareCopy& copy, int64_t data_bytes) const;
  Status no_daemon(const std::string& why) const {
    return unavailable("table daemon at " + path_ + ": " + why);
  }
  std::string name() const { return "table daemon at " + path_; }

  const std::string path_;
  Descriptor socket_;
};

Result<std::unique_ptr<TableClient>> TableClient::connect(const std::string& path) {
  const Result<sockaddr_un> address = share_address(path);
  if (!address.ok()) return address.status();
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.open()) return internal(std::string("no socket: ") + std::strerror(errno));
  const timeval limit{kAnswerSeconds, 0};
  setsockopt(socket.number(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(socket.number(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  std::unique_ptr<TableClient> client(new TableClient(path, std::move(socket)));
  const sockaddr* to = reinterpret_cast<const sockaddr*>(&address.value());
  if (::connect(client->socket_.number(), to, sizeof(sockaddr_un)) == 0) return client;
  const int reason = errno;
  if (reason == EACCES || reason == EPERM) {
    return Status(
        Code::kPermissionDenied,
        client->name() + ": not allowed to connect (the daemon's --socket-mode decides who may)");
  }
  if (reason == EPROTOTYPE) {
    return failed_precondition(client->name() + ": the socket is another program's");
  }
  if (reason == ENOENT || reason == ECONNREFUSED) {
    return client->no_daemon("none answers; start it with engram table serve");
  }
  return client->no_daemon(std::strerror(reason));
}

Result<Answer> TableClient::ask(const ShareRequest& request) {
  // A daemon that refuses may have answered and closed before it was asked.
  const bool sent = send_message(socket_.number(), encode_share_request(request), {});
  ReceivedMessage message;
  if (!receive_message(socket_.number(), sent ? 0 : MSG_DONTWAIT, true, &message)) {
    if (errno == EAGAIN && sent) {
      return no_daemon("no answer within " + std::to_string(kAnswerSeconds) + " s");
    }
    return no_daemon(std::string("connection lost: ") + std::strerror(errno));
  }
  if (message.bytes.empty()) return no_daemon("it closed the connection");
  if (message.cut) return failed_precondition(name() + ": a message longer than the protocol has");
  Result<ShareReply> reply = decode_share_reply(message.bytes);
  if (!reply.ok()) {
    return Status(reply.status().code(), name() + ": " + reply.status().message());
  }
  if (const Status* error = std::get_if<Status>(&reply.value())) {
    return Status(error->code(), name() + ": " + error->message());
  }
  return Answer{std::move(reply).value(), std::move(message.descriptors)};
}

Result<std::vector<SharedTable>> TableClient::list() {
  std::vector<SharedTable> tables;
  uint32_t count = 1;
  for (uint32_t index = 0; index < count; ++index) {
    Result<Answer> answer = ask(ListRequest{index});
    if (!answer.ok() && answer.status().code() == Code::kNotFound) break;
    if (!answer.ok()) return answer.status();
    ShareEntry* entry = std::get_if<ShareEntry>(&answer.value().reply);
    if (entry == nullptr || entry->count > kMaxTables) {
      return failed_precondition(name() + ": an answer to another question");
    }
    count = entry->count;
    Result<TableHeader> header = checked_header(entry->header, name());
    if (!header.ok()) return header.status();
    tables.push_back({std::move(*entry), std::move(header).value()});
  }
  return tables;
}

Result<Answer> TableClient::ask_until_ready(const std::string& id, const AttachOptions& options) {
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(options.wait_ms);
  for (;;) {
    Result<Answer> answer = ask(AttachRequest{id});
    if (!answer.ok()) return answer.status();
    const ShareLoading* loading = std::get_if<ShareLoading>(&answer.value().reply);
    if (loading == nullptr) return answer;
    if (options.progress) options.progress(loading->bytes_done, loading->bytes_total);
    if (Clock::now() + kPollInterval > deadline) {
      const double share = static_cast<double>(loading->bytes_done) /
                           static_cast<double>(std::max<int64_t>(1, loading->bytes_total));
      char percent[16];
      std::snprintf(percent, sizeof percent, "%.0f %%", 100. * share);
      return no_daemon("table " + id + " is still loading, " + percent);
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

// What could harm this process if the daemon were careless: a file that shrinks under the mapping
// (SIGBUS) or one that others write.
Status TableClient::check_pages(
    const Descriptor& pages, const ShareCopy& copy, int64_t data_bytes) const {
  struct stat file {};
  if (fstat(pages.number(), &file) != 0 || file.st_size != copy.mapped_bytes ||
      copy.mapped_bytes < data_bytes) {
    return failed_precondition(
        name() + ": pages of " + std::to_string(file.st_size) + " bytes for a table of " +
        std::to_string(data_bytes));
  }
  const int seals = fcntl(pages.number(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 ||
      (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) == 0) {
    return failed_precondition(name() + ": its pages are not sealed against changes");
  }
  return Status();
}

Status TableClient::map(const Answer& answer, AttachedTable* table) const {
  const ShareTable& reply = std::get<ShareTable>(answer.reply);
  if (answer.descriptors.size() != reply.copies.size()) {
    return failed_precondition(
        name() + ": " + std::to_string(reply.copies.size()) + " copies announced, " +
        std::to_string(answer.descriptors.size()) + " received");
  }
  for (size_t i = 0; i < reply.copies.size(); ++i) {
    const ShareCopy& copy = reply.copies[i];
    const Descriptor& pages = answer.descriptors[i];
    ENGRAM_RETURN_IF_ERROR(check_pages(pages, copy, table->header_.data_bytes));
    const int64_t alignment = copy.pages == PageKind::kHugetlb1G ? kGiantPage : kHugePage;
    void* data = reserve_pages(copy.mapped_bytes, alignment);
    if (data == nullptr) return resource_exhausted(name() + ": no address space for its table");
    table->views_.push_back({static_cast<uint8_t*>(data), copy});
    if (!map_view(data, copy.mapped_bytes, pages.number(), usable_cores())) {
      return failed_precondition(name() + ": mapping its pages failed: " + std::strerror(errno));
    }
  }
  return Status();
}

Result<std::shared_ptr<AttachedTable>> TableClient::attach(
    const std::string& id, const TableWish& wish, const AttachOptions& options) {
  Result<Answer> answer = ask_until_ready(id, options);
  if (!answer.ok()) return answer.status();
  const Clock::time_point begin = Clock::now();
  const ShareTable* reply = std::get_if<ShareTable>(&answer.value().reply);
  if (reply == nullptr) return failed_precondition(name() + ": an answer to another question");
  Result<TableHeader> header = checked_header(reply->header, name());
  if (!header.ok()) return header.status();
  ENGRAM_RETURN_IF_ERROR(check_wish(name(), header.value(), id, wish));
  std::shared_ptr<AttachedTable> table(new AttachedTable());
  table->socket_ = path_;
  table->header_ = std::move(header).value();
  table->topology_ = read_numa_topology("");
  ENGRAM_RETURN_IF_ERROR(map(answer.value(), table.get()));
  table->seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
  table->connection_ = socket_.release();
  return table;
}

AttachedTable::~AttachedTable() {
  pinned_.clear();
  for (const View& view : views_) release_pages(view.data, view.copy.mapped_bytes);
  if (connection_ >= 0) close(connection_);
}

const uint8_t* AttachedTable::local() const {
  if (views_.size() > 1) {
    const int node = topology_.current_node();
    for (const View& view : views_) {
      if (view.copy.node == node) return view.data;
    }
  }
  return data();
}

std::string AttachedTable::text() const {
  const ShareCopy& first = views_.front().copy;
  char numbers[96];
  std::string line = "shared by " + socket_ + ": " + format_bytes(header_.data_bytes) + " of " +
                     page_kind_name(first.pages);
  std::snprintf(
      numbers, sizeof numbers, " pages, %d %% huge, attached in %.3f s", first.huge_percent,
      seconds_);
  line += numbers;
  if (views_.size() > 1) line += ", " + std::to_string(views_.size()) + " copies";
  return line;
}

Status AttachedTable::pin(Device* device) {
  for (const View& view : views_) {
    const HostRange range{view.data, view.copy.mapped_bytes, swappable(view.copy.pages), true};
    ENGRAM_RETURN_IF_ERROR(pinned_.add(device, range));
  }
  return Status();
}

namespace {

// The id of the only table that fits.
Result<std::string> choose_table(
    const std::string& name, const std::vector<SharedTable>& tables, const TableWish& wish) {
  std::string chosen;
  std::string others;
  Status difference;
  for (const SharedTable& table : tables) {
    const TableHeader& header = table.header;
    const Status fits = check_wish(name, header, header.id, wish);
    if (fits.ok() && !chosen.empty()) {
      return failed_precondition(
          name + ": tables " + chosen + " and " + header.id + " both fit layer " +
          std::to_string(wish.geometry.layer) + "; ask for one by its id");
    }
    if (fits.ok()) chosen = header.id;
    if (!fits.ok() && header.geometry.layer == wish.geometry.layer) difference = fits;
    if (!others.empty()) others += ", ";
    others += header.id + " (layer " + std::to_string(header.geometry.layer) + ")";
  }
  if (!chosen.empty()) return chosen;
  if (!difference.ok()) return difference;
  return not_found(
      name + " has no table of layer " + std::to_string(wish.geometry.layer) + "; it has " +
      (others.empty() ? "none" : others));
}

}  // namespace

Result<std::vector<SharedTable>> list_shared_tables(const std::string& socket) {
  const Result<std::unique_ptr<TableClient>> client = TableClient::connect(socket);
  if (!client.ok()) return client.status();
  return client.value()->list();
}

Result<std::shared_ptr<AttachedTable>> attach_table(
    const std::string& socket, const TableWish& wish, const AttachOptions& options) {
  if (!wish.id.empty() && !is_table_id(wish.id)) {
    return invalid_argument("table id: 16 hex digits expected, found \"" + wish.id + "\"");
  }
  const Result<std::unique_ptr<TableClient>> client = TableClient::connect(socket);
  if (!client.ok()) return client.status();
  if (!wish.id.empty()) return client.value()->attach(wish.id, wish, options);
  const Result<std::vector<SharedTable>> tables = client.value()->list();
  if (!tables.ok()) return tables.status();
  const Result<std::string> chosen =
      choose_table("table daemon at " + socket, tables.value(), wish);
  if (!chosen.ok()) return chosen.status();
  return client.value()->attach(chosen.value(), wish, options);
}

}  // namespace engram::memory
