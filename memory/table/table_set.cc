#include "memory/table/table_set.h"

#include <utility>

namespace engram::memory {

std::string table_file_path(const std::string& directory, int layer) {
  return directory + "/layer-" + std::to_string(layer) + ".engram-table";
}

Result<std::vector<std::shared_ptr<const TableSource>>> TableSet::open_sources(
    const TableRequest& request) {
  if (request.options.directory.empty()) {
    ENGRAM_CHECK(request.sources.size() == request.wanted.size());
    return request.sources;
  }
  std::vector<std::shared_ptr<const TableSource>> sources;
  for (const TableGeometry& wanted : request.wanted) {
    Result<std::shared_ptr<const TableFile>> file =
        TableFile::open(table_file_path(request.options.directory, wanted.layer));
    if (!file.ok()) return file.status();
    ENGRAM_RETURN_IF_ERROR(check_table_file(*file.value(), wanted, request.token_map_sha256));
    sources.push_back(make_file_source(std::move(file).value()));
  }
  return sources;
}

Result<std::unique_ptr<TableSet>> TableSet::open(const TableRequest& request) {
  Result<std::vector<std::shared_ptr<const TableSource>>> sources = open_sources(request);
  if (!sources.ok()) return sources.status();
  TableProgress progress;
  for (const auto& source : sources.value()) progress.bytes_total += source->image_bytes();
  std::unique_ptr<TableSet> set(new TableSet());
  for (std::shared_ptr<const TableSource>& source : sources.value()) {
    ENGRAM_RETURN_IF_ERROR(set->load(request, std::move(source), &progress));
  }
  return set;
}

namespace {

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

}  // namespace

// Memory first, then the bytes, then the pages are settled: copied to other nodes and pinned.
Status TableSet::load(
    const TableRequest& request,
    std::shared_ptr<const TableSource> source,
    TableProgress* progress) {
  const TableGeometry& geometry = source->geometry();
  const int64_t bytes = source->image_bytes();
  Result<TableMemory> allocated = allocate_table_memory(
      "n-gram table of layer " + std::to_string(geometry.layer), bytes, request.options.arena,
      request.device);
  if (!allocated.ok()) return allocated.status();
  auto memory = std::make_shared<TableMemory>(std::move(allocated).value());
  ENGRAM_RETURN_IF_ERROR(source->load(memory->data(), [&](int64_t more) {
    progress->bytes_done += more;
    if (request.progress) request.progress(*progress);
  }));
  ENGRAM_RETURN_IF_ERROR(memory->settle(0, bytes));
  Table table{.source = source, .report = describe(*source)};
  describe_memory(memory->report(), &table.report);
  table.report.tiers.push_back({.name = "host", .rows = geometry.rows, .bytes = bytes});
  table.report.load_bytes = bytes;
  table.report.loaded_bytes = bytes;
  HostRows rows;
  rows.place = source->place(memory->data());
  rows.bytes = bytes;
  rows.owner = memory;
  rows.where = "host";
  rows.version = source->version();
  Result<std::unique_ptr<HostRowStore>> store = make_host_row_store(geometry, std::move(rows));
  if (!store.ok()) return store.status();
  stores_.push_back(std::move(store).value());
  tables_.push_back(std::move(table));
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
    report.placement = stores_[i]->placement();
    report.stats = stores_[i]->stats();
  }
  return reports;
}

int64_t TableSet::bytes() const {
  int64_t bytes = 0;
  for (const Table& table : tables_) bytes += table.source->image_bytes();
  return bytes;
}

}  // namespace engram::memory
