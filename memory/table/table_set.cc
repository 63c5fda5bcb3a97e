#include "memory/table/table_set.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "memory/device/system_limits.h"
#include "memory/table/row_store_device.h"
#include "memory/table/row_store_loading.h"
#include "memory/table/row_store_nvme.h"
#include "memory/table/row_store_split.h"
#include "memory/table/table_part.h"

namespace engram::memory {
namespace {

constexpr std::chrono::milliseconds kTellEvery{50};

std::string table_name(const TableSource& source) {
  return "n-gram table of layer " + std::to_string(source.geometry().layer);
}

TableReport describe(const TableSource& source) {
  const TableGeometry& g = source.geometry();
  TableReport report;
  report.layer = g.layer;
  report.version = source.version();
  report.source = source.path();
  report.codec = row_codec_name(g.codec);
  report.rows = g.rows;
  report.columns = g.columns();
  report.row_width = g.row_width;
  report.row_bytes = g.value_bytes() + g.scale_bytes();
  report.bytes = source.image_bytes();
  return report;
}

void describe_memory(const ArenaReport& arena, TableReport* report) {
  report->memory = arena.text();
  report->huge_share = arena.huge_share;
  report->numa_nodes = arena.nodes;
  report->pinned_bytes = arena.pinned_bytes;
  report->touch_seconds = arena.touch_seconds;
  report->pin_seconds = arena.pin_seconds;
  report->findings = arena.findings;
}

// The kernel does not list the device's pages as huge.
std::optional<double> unlisted_huge_share(const TableMemory& memory) {
  if (memory.copy_pages(0) != PageKind::kDevice) return std::nullopt;
  return memory.copy_huge_share(0);
}

void describe_load(const TableLoad& load, TableReport* report) {
  const LoadProgress progress = load.progress();
  report->load_bytes = progress.bytes_total;
  report->loaded_bytes = progress.bytes_done;
  report->load_seconds = progress.seconds;
  report->load_method = load.method();
  const Status status = load.status();
  if (!status.ok()) report->findings.push_back("loading failed: " + status.to_string());
}

}  // namespace

std::string table_file_path(const std::string& directory, int layer) {
  return directory + "/layer-" + std::to_string(layer) + ".engram-table";
}

Status TableSet::open_sources(const TableRequest& request, std::vector<Table>* tables) {
  const std::string& directory = request.options.directory;
  const std::string& socket = request.options.socket;
  if (directory.empty() && socket.empty())
    ENGRAM_CHECK(request.sources.size() == request.wanted.size());
  for (size_t i = 0; i < request.wanted.size(); ++i) {
    Table& table = tables->emplace_back();
    if (!socket.empty()) {
      ENGRAM_RETURN_IF_ERROR(attach(request, i, &table));
    } else if (directory.empty()) {
      table.source = request.sources[i];
    } else {
      Result<std::shared_ptr<const TableFile>> file =
          TableFile::open(table_file_path(directory, request.wanted[i].layer));
      if (!file.ok()) return file.status();
      ENGRAM_RETURN_IF_ERROR(
          check_table_file(*file.value(), request.wanted[i], request.token_map_sha256));
      table.source = make_file_source(std::move(file).value());
    }
    std::vector<std::string> findings = std::move(table.report.findings);
    table.report = describe(*table.source);
    table.report.findings = std::move(findings);
  }
  return {};
}

namespace {

// The file the daemon loaded, if it is here too: rows can then be checked against it.
std::shared_ptr<const TableFile> file_behind(const std::string& socket, const std::string& id) {
  const Result<std::vector<SharedTable>> list = list_shared_tables(socket);
  if (!list.ok()) return nullptr;
  for (const SharedTable& shared : list.value()) {
    if (shared.header.id != id) continue;
    Result<std::shared_ptr<const TableFile>> file = TableFile::open(shared.entry.path);
    if (file.ok() && file.value()->header().id == id) return std::move(file).value();
  }
  return nullptr;
}

}  // namespace

Status TableSet::attach(const TableRequest& request, size_t index, Table* table) {
  const TableSetOptions& o = request.options;
  TableWish wish;
  wish.geometry = request.wanted[index];
  wish.token_map_sha256 = request.token_map_sha256;
  if (!o.directory.empty()) {
    const Result<std::shared_ptr<const TableFile>> file =
        TableFile::open(table_file_path(o.directory, wish.geometry.layer));
    if (!file.ok()) return file.status();
    wish.id = file.value()->header().id;
  }
  AttachOptions options;
  options.wait_ms = o.socket_wait_ms;
  if (request.progress) {
    options.progress = [&](int64_t done, int64_t total) { request.progress({done, total}); };
  }
  Result<std::shared_ptr<AttachedTable>> attached = attach_table(o.socket, wish, options);
  if (!attached.ok()) return attached.status();
  table->attached = std::move(attached).value();
  if (o.arena.pin != PinPages::kNo) {
    const Status pinned = table->attached->pin(request.device);
    if (!pinned.ok() && o.arena.pin == PinPages::kRequire) return pinned;
    if (!pinned.ok()) table->report.findings.push_back(pinned.message());
  }
  if (const auto file = file_behind(o.socket, table->attached->header().id)) {
    table->source = make_file_source(file);
  } else {
    table->source = make_mapped_source(
        table->attached->header(), table->attached->data(), table->attached, o.socket);
  }
  return {};
}

Status TableSet::add_attached(size_t index) {
  Table& table = tables_[index];
  table.report.source = table.attached->text();
  table.report.memory = table.attached->text();
  table.report.shared = true;
  table.report.huge_share = table.attached->huge_share();
  table.report.tiers = {{.name = "host", .rows = table.report.rows, .bytes = table.report.bytes}};
  HostRows rows;
  rows.place = table.attached->place();
  rows.nearest = [attached = table.attached] { return attached->place(); };
  rows.bytes = table.report.bytes;
  rows.owner = table.attached;
  rows.where = "shared";
  rows.version = table.report.version;
  Result<std::unique_ptr<HostRowStore>> store =
      make_host_row_store(table.source->geometry(), std::move(rows));
  if (!store.ok()) return store.status();
  stores_.push_back(std::move(store).value());
  return {};
}

Result<std::unique_ptr<TableSet>> TableSet::open(const TableRequest& request) {
  std::unique_ptr<TableSet> set(new TableSet());
  ENGRAM_RETURN_IF_ERROR(open_sources(request, &set->tables_));
  if (!request.options.placement.empty()) {
    if (!request.options.socket.empty()) {
      return invalid_argument(
          "the daemon at " + request.options.socket +
          " holds the tables in its memory; placement " + request.options.placement +
          " is for tables of this process");
    }
    ENGRAM_RETURN_IF_ERROR(set->place(request));
  }
  for (size_t i = 0; i < set->tables_.size(); ++i) {
    if (set->tables_[i].attached != nullptr) {
      ENGRAM_RETURN_IF_ERROR(set->add_attached(i));
    } else if (!set->tables_[i].ranges.empty()) {
      ENGRAM_RETURN_IF_ERROR(set->add_tiers(request, i));
    } else {
      ENGRAM_RETURN_IF_ERROR(set->load(request, i));
      ENGRAM_RETURN_IF_ERROR(set->add_store(request, i));
    }
  }
  return set;
}

// Decides which rows go where. A table that lies in host memory as a whole is loaded as without a
// placement.
Status TableSet::place(const TableRequest& request) {
  const Result<Placement> placement = parse_placement(request.options.placement);
  if (!placement.ok()) return placement.status();
  std::vector<PlannedTable> planned;
  for (const Table& table : tables_) {
    PlannedTable& p = planned.emplace_back();
    p.name = "layer " + std::to_string(table.report.layer);
    p.geometry = table.source->geometry();
    p.row_bytes = table.report.row_bytes;
    if (const std::shared_ptr<const TableFile> file = table.source->file()) {
      const TableHeader& h = file->header();
      const bool apart = h.layout == RowLayout::kSplit;
      p.row_bytes = h.value_stride + (apart ? h.scale_stride : 0);
      p.slack_bytes = (apart && h.scale_stride > 0 ? 2 : 1) * h.extent_bytes;
    } else {
      p.not_on_nvme = "its rows are in no table file (engram convert writes one)";
    }
  }
  PlacementLimits limits;
  limits.host_bytes = available_bytes(request.options.arena.root);
  if (request.options.arena.other_bytes > 0) {
    limits.host_uses.push_back({"weights, cache and buffers", request.options.arena.other_bytes});
  }
  if (request.options.cache_bytes > 0) {
    limits.host_uses.push_back({"row cache", request.options.cache_bytes});
  }
  const Device* device = request.device;
  if (device == nullptr || device->host_reads_buffers()) {
    limits.no_hbm = "the device has no memory of its own";
  } else if (device->sealed()) {
    limits.no_hbm = "its memory is given out when the server starts, and not while it serves";
  } else {
    limits.hbm_bytes = device->available_bytes();
    const int64_t cache = request.options.arena.other_bytes;
    limits.hbm_uses.push_back(
        {"cache and buffers", cache > 0 ? cache + limits.hbm_bytes / 16 : limits.hbm_bytes / 4});
  }
  Result<PlacementPlan> plan = plan_placement(planned, placement.value(), limits);
  if (!plan.ok()) return plan.status();
  lines_ = plan.value().lines;
  for (size_t i = 0; i < tables_.size(); ++i) {
    std::vector<RowRange>& ranges = plan.value().tables[i].ranges;
    const bool all_in_host = ranges.size() == 1 && ranges[0].tier == Tier::kHost;
    if (!all_in_host) tables_[i].ranges = std::move(ranges);
  }
  return {};
}

// A table that is cut is read part by part: by the device where it lies in its memory and in pinned
// memory, else by the host.
Status TableSet::check_cuts(const Table& table) {
  if (table.ranges.size() == 1) return {};
  if (table.source->file() == nullptr) {
    return failed_precondition(
        table_name(*table.source) +
        " is cut between tiers, and its rows are in no table file (engram " +
        "convert writes one)");
  }
  const bool in_hbm = table.ranges.back().tier == Tier::kHbm;
  if (in_hbm && table.ranges.front().tier == Tier::kNvme) {
    return failed_precondition(
        table_name(*table.source) +
        " is cut between hbm, whose rows the device reads, and nvme, whose " +
        "rows the host reads; a table can have rows in hbm and host, or in host and nvme");
  }
  return {};
}

Result<std::unique_ptr<RowStore>> TableSet::open_part(
    const TableRequest& request, size_t index, const RowRange& range) {
  Table& table = tables_[index];
  const std::shared_ptr<const TableFile> file = table.source->file();
  const TableGeometry& whole = table.source->geometry();
  const bool all = range.end - range.first == whole.rows;
  const TableGeometry geometry = all ? whole : part_geometry(whole, range.first, range.end);
  if (range.tier == Tier::kNvme) {
    Result<FileRows> rows = open_file_rows(*file, range.first, range.end);
    if (!rows.ok()) return rows.status();
    NvmeOptions options;
    options.backend = request.options.io;
    options.cache_bytes = request.options.cache_bytes / std::ssize(tables_);
    Result<std::unique_ptr<NvmeRowStore>> store =
        make_nvme_row_store(geometry, std::move(rows).value(), options);
    if (!store.ok()) return store.status();
    return std::unique_ptr<RowStore>(std::move(store).value());
  }
  const auto on_bytes = [&](int64_t more) {
    table.report.loaded_bytes += more;
    if (request.progress) request.progress(progress());
  };
  if (range.tier == Tier::kHbm) {
    table.report.load_bytes += (range.end - range.first) * table.report.row_bytes;
    return load_device_row_store(
        geometry, *table.source, range.first, range.end, request.options.arena, *request.device,
        on_bytes);
  }
  Result<TablePart> part = load_table_part(
      *file, range.first, range.end, request.options.arena, request.device, on_bytes);
  if (!part.ok()) return part.status();
  table.memory = part.value().memory;
  table.report.load_bytes += table.memory->bytes();
  HostRows rows;
  rows.place = part.value().place;
  rows.bytes = (range.end - range.first) * rows.place.value_stride;
  rows.huge_share = unlisted_huge_share(*table.memory);
  rows.owner = table.memory;
  rows.where = "host";
  rows.version = table.report.version;
  Result<std::unique_ptr<HostRowStore>> store = make_host_row_store(geometry, std::move(rows));
  if (!store.ok()) return store.status();
  return std::unique_ptr<RowStore>(std::move(store).value());
}

Status TableSet::add_tiers(const TableRequest& request, size_t index) {
  Table& table = tables_[index];
  const TableGeometry& geometry = table.source->geometry();
  ENGRAM_RETURN_IF_ERROR(check_cuts(table));
  std::vector<RowPart> parts;
  for (const RowRange& range : table.ranges) {
    Result<std::unique_ptr<RowStore>> store = open_part(request, index, range);
    if (!store.ok()) return store.status();
    parts.push_back({.first = range.first, .store = std::move(store).value()});
    table.report.tiers.push_back(
        {.name = tier_name(range.tier), .rows = range.end - range.first, .bytes = range.bytes});
  }
  if (parts.size() == 1) {
    stores_.push_back(std::move(parts[0].store));
    return {};
  }
  const std::vector<PlacedRows> lower = parts.front().store->in_memory();
  if (table.ranges.back().tier == Tier::kHbm &&
      !request.device->reads_host(lower.front().place.values)) {
    return failed_precondition(
        table_name(*table.source) +
        " is cut between hbm and host, where the device reads pinned memory " +
        "only, and pinning failed: " + table.memory->report().text());
  }
  constexpr int64_t kRowsAtOnce = 65536;
  Result<std::unique_ptr<RowStore>> store =
      make_split_row_store(geometry, std::move(parts), kRowsAtOnce);
  if (!store.ok()) return store.status();
  stores_.push_back(std::move(store).value());
  return {};
}

Status TableSet::allocate(const TableRequest& request, Table* table) {
  Result<TableMemory> allocated = allocate_table_memory(
      "n-gram table of layer " + std::to_string(table->report.layer), table->report.bytes,
      request.options.arena, request.device);
  if (!allocated.ok()) return allocated.status();
  table->memory = std::make_shared<TableMemory>(std::move(allocated).value());
  return {};
}

Status TableSet::start_load(
    const TableRequest& request, const std::shared_ptr<const TableFile>& file, Table* table) {
  LoadOptions options;
  options.threads = request.options.arena.threads;
  options.backend = request.options.io;
  options.on_segment = [memory = table->memory](int64_t offset, int64_t bytes) {
    return memory->settle(offset, bytes);
  };
  Result<std::unique_ptr<TableLoad>> load =
      TableLoad::start(file, table->memory->data(), std::move(options));
  if (!load.ok()) return load.status();
  table->load = std::move(load).value();
  return {};
}

// Pages are settled (copied to other nodes, pinned) when their bytes are there.
Status TableSet::load(const TableRequest& request, size_t index) {
  Table& table = tables_[index];
  table.report.tiers = {{.name = "host", .rows = table.report.rows, .bytes = table.report.bytes}};
  ENGRAM_RETURN_IF_ERROR(allocate(request, &table));
  const std::shared_ptr<const TableFile> file = table.source->file();
  if (file == nullptr) {
    table.report.load_bytes = table.report.bytes;
    ENGRAM_RETURN_IF_ERROR(table.source->load(table.memory->data(), [&](int64_t more) {
      table.report.loaded_bytes += more;
      if (request.progress) request.progress(progress());
    }));
    table.report.loaded_bytes = table.report.bytes;
    return table.memory->settle(0, table.report.bytes);
  }
  ENGRAM_RETURN_IF_ERROR(start_load(request, file, &table));
  if (request.options.start_early) return {};
  while (!table.load->over()) {
    if (request.progress) request.progress(progress());
    std::this_thread::sleep_for(kTellEvery);
  }
  ENGRAM_RETURN_IF_ERROR(table.load->wait());
  if (request.progress) request.progress(progress());
  return {};
}

Status TableSet::add_store(const TableRequest& request, size_t index) {
  const Table& table = tables_[index];
  HostRows rows;
  rows.place = table.source->place(table.memory->data());
  // While a table is loaded, the other copies are behind the first.
  if (table.memory->copies() > 1 && !request.options.start_early) {
    rows.nearest = [source = table.source, memory = table.memory] {
      return source->place(memory->local());
    };
  }
  rows.bytes = table.report.bytes;
  rows.huge_share = unlisted_huge_share(*table.memory);
  rows.owner = table.memory;
  rows.where = "host";
  rows.version = table.report.version;
  if (table.load == nullptr || !request.options.start_early) {
    Result<std::unique_ptr<HostRowStore>> store =
        make_host_row_store(table.source->geometry(), std::move(rows));
    if (!store.ok()) return store.status();
    stores_.push_back(std::move(store).value());
    return {};
  }
  Result<std::unique_ptr<ReadQueue>> queue = make_read_queue(request.options.io, 64);
  if (!queue.ok()) return queue.status();
  Result<std::unique_ptr<RowStore>> store = make_loading_row_store(
      {.file = table.source->file(),
       .load = table.load,
       .rows = std::move(rows),
       .queue = std::move(queue).value()});
  if (!store.ok()) return store.status();
  stores_.push_back(std::move(store).value());
  return {};
}

std::string TableSet::version() const {
  std::string text;
  for (const std::unique_ptr<RowStore>& store : stores_) {
    if (!text.empty()) text += "+";
    text += store->version();
  }
  return text;
}

std::vector<TableReport> TableSet::reports() const {
  std::vector<TableReport> reports;
  for (size_t i = 0; i < tables_.size(); ++i) {
    TableReport& report = reports.emplace_back(tables_[i].report);
    if (tables_[i].memory != nullptr) describe_memory(tables_[i].memory->report(), &report);
    if (tables_[i].load != nullptr) describe_load(*tables_[i].load, &report);
    report.placement = stores_[i]->placement();
    report.stats = stores_[i]->stats();
  }
  return reports;
}

int64_t TableSet::bytes() const {
  int64_t bytes = 0;
  for (const Table& table : tables_) bytes += table.report.bytes;
  return bytes;
}

// Bytes that go to memory, as far as it is known.
int64_t TableSet::to_load(const Table& table) {
  if (table.attached != nullptr) return 0;
  if (table.ranges.empty()) return table.report.bytes;
  int64_t bytes = 0;
  for (const RowRange& range : table.ranges) {
    if (range.tier != Tier::kNvme) bytes += range.bytes;
  }
  return std::max(bytes, table.report.load_bytes);
}

TableProgress TableSet::progress() const {
  TableProgress progress;
  for (const Table& table : tables_) {
    progress.bytes_total += to_load(table);
    progress.bytes_done +=
        table.load != nullptr ? table.load->progress().bytes_done : table.report.loaded_bytes;
  }
  return progress;
}

Status TableSet::wait_loaded() const {
  for (const Table& table : tables_) {
    if (table.load != nullptr) ENGRAM_RETURN_IF_ERROR(table.load->wait());
  }
  return {};
}

}  // namespace engram::memory
