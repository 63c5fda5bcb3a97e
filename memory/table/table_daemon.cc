#include "memory/table/table_daemon.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>

#include "memory/device/host_pages.h"
#include "memory/io/file.h"
#include "memory/table/share_server.h"
#include "memory/table/table_file.h"
#include "memory/table/table_loader.h"

namespace engram::memory {
namespace {

struct DaemonTable {
  std::shared_ptr<const TableFile> file;  // shared with its load
  TableMemory memory;
  int number = 0;  // at the server
};

// A finished one by name and first bytes; whether it is sound shows when it is opened.
bool is_table_file(const std::string& path) {
  if (path.ends_with(kUnfinishedSuffix)) return false;
  const Result<File> file = File::open(path);
  uint8_t begin[8];
  return file.ok() && file.value().bytes() >= kTableBlock &&
         file.value().read(0, sizeof begin, begin).ok() && begins_table_file(begin);
}

std::string describe(const TableFile& file) {
  const TableHeader& header = file.header();
  return "table " + header.id + " (layer " + std::to_string(header.geometry.layer) + ", " +
         file.path() + ")";
}

Result<std::vector<DaemonTable>> open_tables(const std::vector<std::string>& paths) {
  std::vector<DaemonTable> tables;
  for (const std::string& path : paths) {
    DaemonTable table;
    Result<std::shared_ptr<const TableFile>> file = TableFile::open(path);
    if (!file.ok()) return file.status();
    table.file = std::move(file).value();
    for (const DaemonTable& other : tables) {
      if (other.file->header().id != table.file->header().id) continue;
      return invalid_argument(
          path + ": the same table as " + other.file->path() + ", id " + other.file->header().id);
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

Status announce(std::vector<DaemonTable>& tables, ShareServer& server) {
  for (DaemonTable& table : tables) {
    const TableHeader& header = table.file->header();
    const Result<std::string> bytes = encode_table_header(header);
    if (!bytes.ok()) return bytes.status();
    table.number = server.add(table.file->path(), bytes.value(), header.id, header.data_bytes);
  }
  return Status();
}

// All before the first byte is read: a plan that does not fit fails within moments.
Status allocate(
    std::vector<DaemonTable>& tables, const TableDaemonOptions& options, Device* device) {
  int64_t others = 0;
  for (const DaemonTable& table : tables) others += table.file->header().data_bytes;
  // Explicit huge pages are not part of the available memory.
  int64_t pools = 0;
  for (const int64_t page_bytes : {kHugePage, kGiantPage}) {
    pools += read_huge_pool(options.arena.root, page_bytes, -1).available * page_bytes;
  }
  for (DaemonTable& table : tables) {
    ArenaOptions arena = options.arena;
    arena.shareable = true;
    others -= table.file->header().data_bytes;
    pools -= table.file->header().data_bytes;
    arena.other_bytes += std::max<int64_t>(0, others - std::max<int64_t>(0, pools));
    Result<TableMemory> memory = allocate_table_memory(
        describe(*table.file), table.file->header().data_bytes, arena, device);
    if (!memory.ok()) return memory.status();
    table.memory = std::move(memory).value();
    options.log(table.memory.report().text());
  }
  return Status();
}

bool readable(int descriptor, int timeout_ms) {
  pollfd waiting{descriptor, POLLIN, 0};
  return poll(&waiting, 1, timeout_ms) > 0;
}

// Loads one table and tells the server how far it is. CANCELLED when `stop` became readable.
Status load(DaemonTable& table, ShareServer& server, int stop) {
  constexpr int kProgressMs = 50;
  LoadOptions load_options;
  load_options.on_segment = [&table](int64_t offset, int64_t bytes) {
    return table.memory.settle(offset, bytes);
  };
  Result<std::unique_ptr<TableLoad>> started =
      TableLoad::start(table.file, table.memory.data(), std::move(load_options));
  if (!started.ok()) return started.status();
  TableLoad& load = *started.value();
  while (!load.over()) {
    if (readable(stop, kProgressMs)) return {Code::kCancelled, "stopped"};
    server.set_progress(table.number, load.progress().bytes_done);
  }
  return load.wait();
}

// Returns the first reason when no table could be loaded.
Status load_all(
    std::vector<DaemonTable>& tables,
    ShareServer& server,
    const TableDaemonOptions& options,
    int stop) {
  Status first;
  size_t loaded = 0;
  for (DaemonTable& table : tables) {
    const std::string name = describe(*table.file);
    const Status status = load(table, server, stop);
    if (status.code() == Code::kCancelled) return Status();
    if (!status.ok()) {
      if (first.ok()) first = status;
      server.set_failed(table.number, status);
      options.log(name + " failed: " + status.to_string());
      continue;
    }
    server.set_ready(table.number, &table.memory);
    ++loaded;
    options.log(name + " is ready");
  }
  return loaded > 0 ? Status() : first;
}

}  // namespace

Result<std::vector<std::string>> find_table_files(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    std::vector<std::string> found;
    std::filesystem::directory_iterator entries(path, error);
    for (const std::filesystem::directory_iterator end; !error && entries != end;
         entries.increment(error)) {
      if (is_table_file(entries->path().string())) found.push_back(entries->path().string());
    }
    if (error) return not_found(path + ": " + error.message());
    if (found.empty()) return not_found(path + ": no table file in it");
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  if (files.empty()) return not_found("no table file given");
  return files;
}

Status run_table_daemon(const TableDaemonOptions& options, Device* device, int stop) {
  const Result<std::vector<std::string>> paths = find_table_files(options.tables);
  if (!paths.ok()) return paths.status();
  Result<std::vector<DaemonTable>> opened = open_tables(paths.value());
  if (!opened.ok()) return opened.status();
  std::vector<DaemonTable>& tables = opened.value();
  Result<std::unique_ptr<ShareServer>> listening =
      ShareServer::listen(options.socket, options.socket_mode);
  if (!listening.ok()) return listening.status();
  ShareServer& server = *listening.value();
  ENGRAM_RETURN_IF_ERROR(announce(tables, server));
  options.log("listening on " + options.socket);

  // Serves while memory is taken and files are read: clients learn how far it is.
  const Descriptor ended(eventfd(0, EFD_CLOEXEC));
  if (!ended.open()) return internal(std::string("no eventfd: ") + std::strerror(errno));
  std::thread serving([&] { server.run(ended.number()); });
  Status status = allocate(tables, options, device);
  if (status.ok()) status = load_all(tables, server, options, stop);
  if (status.ok()) readable(stop, -1);
  ENGRAM_CHECK(eventfd_write(ended.number(), 1) == 0);
  serving.join();
  return status;
}

}  // namespace engram::memory
