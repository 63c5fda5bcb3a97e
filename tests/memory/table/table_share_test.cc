// The client against a server in this process, against servers that lie, and the server against
// clients that misbehave.
#include "memory/table/table_share.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "memory/table/share_server.h"
#include "memory/table/share_socket.h"
#include "tests/support/fake_nodes.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

std::string header_of(const TableFile& file) {
  return encode_table_header(file.header()).value();
}

// A table in shareable memory.
struct Table {
  std::shared_ptr<const TableFile> file;
  TableMemory memory;

  Table(const std::string& path, const TableGeometry& geometry, const ArenaOptions& wish)
      : file(tests::write_synthetic_table(path, geometry, RowLayout::kSplit, 1 << 16)) {
    ArenaOptions options = wish;
    options.shareable = true;
    const int64_t bytes = file->header().data_bytes;
    Result<TableMemory> allocated = allocate_table_memory("t", bytes, options, nullptr);
    REQUIRE(allocated.ok());
    memory = std::move(allocated).value();
    const std::vector<uint8_t> image = tests::synthetic_image(file->header());
    std::memcpy(memory.data(), image.data(), image.size());
    REQUIRE(memory.settle(0, bytes).ok());
  }
  const std::string& id() const { return file->header().id; }
  const TableGeometry& geometry() const { return file->header().geometry; }
};

TableGeometry geometry(int layer) {
  TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 64, 4001, 4);
  g.layer = layer;
  return g;
}

// A server on a thread of its own.
class Serving {
 public:
  explicit Serving(const std::string& socket) {
    Result<std::unique_ptr<ShareServer>> made = ShareServer::listen(socket, 0600);
    REQUIRE(made.ok());
    server_ = std::move(made).value();
  }
  ~Serving() {
    eventfd_write(stop_.number(), 1);
    if (thread_.joinable()) thread_.join();
  }
  int add(const Table& table) {
    return server_->add(
        table.file->path(), header_of(*table.file), table.id(), table.file->header().data_bytes);
  }
  void start() {
    thread_ = std::thread([this] { server_->run(stop_.number()); });
  }
  ShareServer& operator*() { return *server_; }

 private:
  std::unique_ptr<ShareServer> server_;
  Descriptor stop_{eventfd(0, EFD_CLOEXEC)};
  std::thread thread_;
};

size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

TEST_CASE("an attached table has the file's bytes and cannot be written", "[table_share]") {
  const tests::TempDirectory directory;
  const std::string socket = directory.file("s");
  const size_t before = open_descriptors();
  for (const HugePages huge : {HugePages::kAuto, HugePages::kOff}) {
    ArenaOptions options;
    options.huge = huge;
    const Table table(directory.file("t"), geometry(1), options);
    Serving server(socket);
    (*server).set_ready(server.add(table), &table.memory);
    server.start();
    for (const std::string& id : {std::string(), table.id()}) {
      Result<std::shared_ptr<AttachedTable>> attached =
          attach_table(socket, {id, table.geometry(), {}}, AttachOptions());
      REQUIRE(attached.ok());
      const AttachedTable& view = *attached.value();
      CHECK(view.header().id == table.id());
      const std::vector<uint8_t> image = tests::synthetic_image(view.header());
      CHECK(std::memcmp(view.data(), image.data(), image.size()) == 0);
      CHECK(view.local() == view.data());
      CHECK(view.place().values == view.data() + view.header().values_at);
      CHECK_THAT(view.text(), Catch::Contains(socket) && Catch::Contains("attached in"));
      void* page = const_cast<uint8_t*>(view.data());
      CHECK(mprotect(page, kTableBlock, PROT_READ | PROT_WRITE) != 0);
      CHECK(madvise(page, kTableBlock, MADV_REMOVE) != 0);
    }
    std::filesystem::remove(directory.file("t"));
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("a table that is not the wanted one is refused with both names", "[table_share]") {
  const tests::TempDirectory directory;
  const std::string socket = directory.file("s");
  const Table one(directory.file("1"), geometry(1), ArenaOptions());
  TableGeometry other_codec = geometry(2);
  const Table two(directory.file("2"), other_codec, ArenaOptions());
  other_codec.codec = RowCodec::kBf16;
  const Table again(directory.file("3"), other_codec, ArenaOptions());
  Serving server(socket);
  for (const Table* table : {&one, &two, &again}) {
    (*server).set_ready(server.add(*table), &table->memory);
  }
  server.start();
  const auto attach = [&](const std::string& id, const TableGeometry& wanted) {
    return attach_table(socket, {id, wanted, {}}, AttachOptions()).status();
  };

  const Status unknown = attach("ffffffffffffffff", geometry(1));
  CHECK(unknown.code() == Code::kNotFound);
  CHECK_THAT(unknown.message(), Catch::Contains("ffffffffffffffff") && Catch::Contains(one.id()));
  const Status layer = attach("", geometry(7));
  CHECK(layer.code() == Code::kNotFound);
  CHECK_THAT(layer.message(), Catch::Contains("layer 7") && Catch::Contains(two.id()));
  TableGeometry moduli = geometry(1);
  moduli.moduli[2] -= 1;
  for (const std::string& id : {std::string(), one.id()}) {
    const Status differs = attach(id, moduli);
    CHECK(differs.code() == Code::kFailedPrecondition);
    CHECK_THAT(
        differs.message(), Catch::Contains("moduli[2]") && Catch::Contains("the model's is"));
  }
  const Status several = attach("", geometry(2));
  CHECK(several.code() == Code::kFailedPrecondition);
  CHECK_THAT(several.message(), Catch::Contains(two.id()) && Catch::Contains(again.id()));
  CHECK(attach(again.id(), geometry(2)).ok());
  CHECK(attach("not an id", geometry(2)).code() == Code::kInvalidArgument);

  const Result<std::vector<SharedTable>> tables = list_shared_tables(socket);
  REQUIRE(tables.ok());
  REQUIRE(tables.value().size() == 3);
  CHECK(tables.value()[1].header.id == two.id());
  CHECK(tables.value()[2].entry.path == directory.file("3"));
  CHECK(tables.value()[0].entry.state == ShareState::kReady);
}

TEST_CASE("a table that is still loading is waited for, or says how far it is", "[table_share]") {
  const tests::TempDirectory directory;
  const std::string socket = directory.file("s");
  const Table table(directory.file("1"), geometry(1), ArenaOptions());
  const Table broken(directory.file("2"), geometry(2), ArenaOptions());
  Serving server(socket);
  const int number = server.add(table);
  const int second = server.add(broken);
  const int64_t total = table.file->header().data_bytes;
  (*server).set_progress(number, total / 4);
  server.start();
  const Status loading = attach_table(socket, {"", geometry(1), {}}, AttachOptions()).status();
  CHECK(loading.code() == Code::kUnavailable);
  CHECK_THAT(loading.message(), Catch::Contains("25 %"));

  AttachOptions patient;
  patient.wait_ms = 60000;
  int64_t seen = 0;
  int calls = 0;
  patient.progress = [&](int64_t done, int64_t all) {
    CHECK(all == total);
    seen = done;
    if (++calls == 2) (*server).set_ready(number, &table.memory);
  };
  CHECK(attach_table(socket, {"", geometry(1), {}}, patient).ok());
  CHECK(calls == 2);
  CHECK(seen == total / 4);

  (*server).set_failed(second, data_loss("2: extent 3 is corrupt"));
  const Status failed = attach_table(socket, {"", geometry(2), {}}, patient).status();
  CHECK(failed.code() == Code::kDataLoss);
  CHECK_THAT(failed.message(), Catch::Contains("extent 3"));
  CHECK(list_shared_tables(socket).value()[1].entry.state == ShareState::kFailed);
}

TEST_CASE("copies of several nodes travel together", "[table_share]") {
  const tests::TempDirectory directory;
  const std::string socket = directory.file("s");
  const FakeRoot root;
  root.write("proc/meminfo", "MemAvailable: 4000000 kB\n");
  write_two_nodes(root, 2000000, 2000000);
  ArenaOptions options;
  options.root = root.path();
  options.numa = {NumaPolicy::Kind::kReplicate, 0};
  const Table table(directory.file("1"), geometry(1), options);
  REQUIRE(table.memory.copies() == 2);
  Serving server(socket);
  (*server).set_ready(server.add(table), &table.memory);
  server.start();
  const auto attached = attach_table(socket, {"", geometry(1), {}}, AttachOptions());
  REQUIRE(attached.ok());
  CHECK_THAT(attached.value()->text(), Catch::Contains("2 copies"));
  const std::vector<uint8_t> image = tests::synthetic_image(table.file->header());
  CHECK(std::memcmp(attached.value()->local(), image.data(), image.size()) == 0);
}

TEST_CASE("without a daemon there is a reason", "[table_share]") {
  const tests::TempDirectory directory;
  const auto attach = [&](const std::string& socket) {
    return attach_table(socket, {"", geometry(1), {}}, AttachOptions()).status();
  };
  CHECK(attach(directory.file("none")).code() == Code::kUnavailable);
  directory.write("file", "x");
  CHECK(attach(directory.file("file")).code() == Code::kUnavailable);
  CHECK(attach(std::string(200, 'x')).code() == Code::kInvalidArgument);
  CHECK(attach("").code() == Code::kInvalidArgument);
  {
    const Serving server(directory.file("s"));
    const Status empty = list_shared_tables(directory.file("none")).status();
    CHECK(empty.code() == Code::kUnavailable);
  }
  // A server that has gone removes its socket.
  CHECK_FALSE(std::filesystem::exists(directory.file("s")));
}

TEST_CASE("a socket has one owner and its permissions", "[table_share]") {
  const tests::TempDirectory directory;
  const std::string path = directory.file("s");
  for (const unsigned mode : {0600U, 0660U, 0666U}) {
    Result<std::unique_ptr<ShareServer>> first = ShareServer::listen(path, mode);
    REQUIRE(first.ok());
    struct stat file {};
    REQUIRE(stat(path.c_str(), &file) == 0);
    CHECK((file.st_mode & 0777) == mode);
    const Status second = ShareServer::listen(path, mode).status();
    CHECK(second.code() == Code::kFailedPrecondition);
    CHECK_THAT(second.message(), Catch::Contains("another table daemon"));
    CHECK(std::filesystem::exists(path));
  }
  directory.write("file", "precious");
  CHECK(
      ShareServer::listen(directory.file("file"), 0600).status().code() ==
      Code::kFailedPrecondition);
  CHECK(std::filesystem::file_size(directory.file("file")) == 8);
  CHECK(
      ShareServer::listen(directory.file("no/such/s"), 0600).status().code() ==
      Code::kFailedPrecondition);
}

Descriptor connect_raw(const std::string& path) {
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const sockaddr_un address = share_address(path).value();
  REQUIRE(
      ::connect(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return socket;
}

TEST_CASE("clients that stall or send junk disturb nobody", "[table_share]") {
  const tests::TempDirectory directory;
  const std::string socket = directory.file("s");
  const Table table(directory.file("1"), geometry(1), ArenaOptions());
  Serving server(socket);
  (*server).set_ready(server.add(table), &table.memory);
  server.start();
  const auto works = [&] {
    return attach_table(socket, {"", geometry(1), {}}, AttachOptions()).ok();
  };
  REQUIRE(works());

  constexpr uint32_t kSeed = 31;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  std::vector<Descriptor> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(connect_raw(socket));
  for (int i = 0; i < 200; ++i) {
    const Descriptor junk = connect_raw(socket);
    std::string message(1 + random() % (2 * kShareMessageLimit), '\0');
    for (char& c : message) c = static_cast<char>(random());
    if (i % 2 == 0) {
      const std::string prelude = encode_share_request(ListRequest{0});
      message.replace(0, std::min(message.size(), prelude.size()), prelude, 0, message.size());
    }
    const int itself = junk.number();
    send_message(junk.number(), message, {&itself, 1});
  }
  CHECK(works());

  // One that asks and never reads is dropped when its buffer is full.
  const Descriptor deaf = connect_raw(socket);
  int asked = 0;
  while (asked < 100000 && send_message(deaf.number(), encode_share_request(ListRequest{0}), {})) {
    ++asked;
    if (asked % 100 == 0) REQUIRE(works());
  }
  CHECK(works());

  // An answer to another release names both versions.
  const Descriptor newer = connect_raw(socket);
  std::string message = encode_share_request(ListRequest{0});
  message[4] = 2;
  REQUIRE(send_message(newer.number(), message, {}));
  ReceivedMessage answer;
  REQUIRE(receive_message(newer.number(), 0, false, &answer));
  const ShareReply reply = decode_share_reply(answer.bytes).value();
  CHECK(std::get<Status>(reply).code() == Code::kFailedPrecondition);
  CHECK(works());
}

// Answers every message of one client in turn with prepared replies.
class LyingServer {
 public:
  struct Lie {
    std::string message;
    std::vector<int> descriptors;
  };
  LyingServer(const std::string& path, std::vector<Lie> lies) : lies_(std::move(lies)) {
    const sockaddr_un address = share_address(path).value();
    unlink(path.c_str());
    REQUIRE(
        bind(socket_.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket_.number(), 1) == 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~LyingServer() { thread_.join(); }

 private:
  void serve() {
    const Descriptor client(accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC));
    for (const Lie& lie : lies_) {
      ReceivedMessage question;
      receive_message(client.number(), 0, false, &question);
      if (!lie.message.empty()) send_message(client.number(), lie.message, lie.descriptors);
    }
  }

  const std::vector<Lie> lies_;
  Descriptor socket_{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  std::thread thread_;
};

TEST_CASE("a daemon that lies is refused", "[table_share]") {
  const tests::TempDirectory directory;
  const std::string socket = directory.file("s");
  const Table table(directory.file("1"), geometry(1), ArenaOptions());
  const int64_t mapped = table.memory.mapped_bytes(0);
  const ShareTable honest{header_of(*table.file), {{-1, table.memory.copy_pages(0), 100, mapped}}};
  const int good = table.memory.descriptor(0);
  const Descriptor unsealed(memfd_create("open", MFD_CLOEXEC));
  REQUIRE(ftruncate(unsealed.number(), mapped) == 0);
  const auto attach = [&](ShareReply reply, std::vector<int> descriptors) {
    const LyingServer server(socket, {{encode_share_reply(reply), std::move(descriptors)}});
    return attach_table(socket, {table.id(), geometry(1), {}}, AttachOptions()).status();
  };
  CHECK(attach(honest, {good}).ok());
  const size_t before = open_descriptors();

  CHECK_THAT(attach(honest, {unsealed.number()}).message(), Catch::Contains("not sealed"));
  CHECK_THAT(attach(honest, {}).message(), Catch::Contains("0 received"));
  CHECK_THAT(attach(honest, {good, good}).message(), Catch::Contains("2 received"));
  ShareTable lie = honest;
  lie.copies[0].mapped_bytes *= 2;
  CHECK_THAT(attach(lie, {good}).message(), Catch::Contains("pages of"));
  lie = honest;
  lie.header[40] = static_cast<char>(lie.header[40] + 1);
  CHECK(attach(lie, {good}).code() == Code::kDataLoss);
  ShareEntry entry;
  entry.header = honest.header;
  CHECK(attach(entry, {good}).code() == Code::kFailedPrecondition);
  const Table other(directory.file("2"), geometry(2), ArenaOptions());
  lie = honest;
  lie.header = header_of(*other.file);
  CHECK_THAT(attach(lie, {good}).message(), Catch::Contains(table.id() + " wanted"));
  CHECK(open_descriptors() == before + 2);  // file and memory of `other`

  constexpr uint32_t kSeed = 77;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  for (int i = 0; i < 50; ++i) {
    std::string junk = encode_share_reply(honest);
    for (int j = 0; j < 4; ++j) junk[random() % 12] = static_cast<char>(random());
    const LyingServer server(socket, {{junk, {good}}});
    CHECK_FALSE(attach_table(socket, {table.id(), geometry(1), {}}, AttachOptions()).ok());
  }
  const LyingServer gone(socket, {{"", {}}});
  CHECK(
      attach_table(socket, {table.id(), geometry(1), {}}, AttachOptions()).status().code() ==
      Code::kUnavailable);
}

TEST_CASE("who has attached is counted until it lets go", "[table_share]") {
  const tests::TempDirectory directory;
  const std::string socket = directory.file("s");
  const Table table(directory.file("1"), geometry(1), ArenaOptions());
  Serving server(socket);
  (*server).set_ready(server.add(table), &table.memory);
  server.start();
  const auto attached = [&] { return list_shared_tables(socket).value()[0].entry.attached; };
  CHECK(attached() == 0);
  {
    const auto one = attach_table(socket, {"", geometry(1), {}}, AttachOptions());
    const auto two = attach_table(socket, {"", geometry(1), {}}, AttachOptions());
    REQUIRE(one.ok());
    REQUIRE(two.ok());
    CHECK(attached() == 2);
  }
  // The server hears of the hang-ups before it hears of a question asked after them.
  uint32_t left = attached();
  for (int i = 0; i < 1000 && left > 0; ++i) left = attached();
  CHECK(left == 0);
}

}  // namespace
}  // namespace engram::memory
