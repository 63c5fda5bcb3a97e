#include "memory/table/table_set.h"

#include <chrono>
#include <thread>
#include <utility>

#include "memory/table/row_store_loading.h"

namespace engram::memory {
namespace {

constexpr std::chrono::milliseconds kTellEvery{50};

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
  report.tiers.push_back({.name = "host", .rows = g.rows, .bytes = report.bytes});
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
  if (directory.empty()) ENGRAM_CHECK(request.sources.size() == request.wanted.size());
  for (size_t i = 0; i < request.wanted.size(); ++i) {
    Table& table = tables->emplace_back();
    if (directory.empty()) {
      table.source = request.sources[i];
    } else {
      Result<std::shared_ptr<const TableFile>> file =
          TableFile::open(table_file_path(directory, request.wanted[i].layer));
      if (!file.ok()) return file.status();
      ENGRAM_RETURN_IF_ERROR(
          check_table_file(*file.value(), request.wanted[i], request.token_map_sha256));
      table.source = make_file_source(std::move(file).value());
    }
    table.report = describe(*table.source);
  }
  return {};
}

Result<std::unique_ptr<TableSet>> TableSet::open(const TableRequest& request) {
  std::unique_ptr<TableSet> set(new TableSet());
  ENGRAM_RETURN_IF_ERROR(open_sources(request, &set->tables_));
  for (size_t i = 0; i < set->tables_.size(); ++i) {
    ENGRAM_RETURN_IF_ERROR(set->load(request, i));
    ENGRAM_RETURN_IF_ERROR(set->add_store(request, i));
  }
  return set;
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
  rows.bytes = table.report.bytes;
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

TableProgress TableSet::progress() const {
  TableProgress progress;
  for (const Table& table : tables_) {
    progress.bytes_total += table.report.bytes;
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
