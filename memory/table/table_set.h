// The tables of a model, opened the way the options ask for: one row store per Engram layer, what
// is known about each, and the source each can be checked against.
//
// Tables come from table files (DIRECTORY/layer-<l>.engram-table), from a daemon that shares its
// pages, or from sources the caller has (the checkpoint's tensors). A file that does not belong to
// the model is refused before memory is taken, and the message names the field.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/io/read_queue.h"
#include "memory/table/geometry.h"
#include "memory/table/host_arena.h"
#include "memory/table/placement.h"
#include "memory/table/row_store.h"
#include "memory/table/table_file.h"
#include "memory/table/table_loader.h"
#include "memory/table/table_report.h"
#include "memory/table/table_share.h"
#include "memory/table/table_source.h"

namespace engram::memory {

struct TableSetOptions {
  std::string directory = {};  // of table files; empty: the caller's sources
  // Of a daemon (engram table serve) whose pages are used; the files of `directory`, if it is
  // given, then only say which versions are wanted.
  std::string socket = {};
  int64_t socket_wait_ms = 60000;  // for a daemon that still loads
  ArenaOptions arena = {};
  // Which tiers hold the rows, see parse_placement(); empty: all of them in host memory.
  std::string placement = {};
  int64_t cache_bytes = 0;          // of DRAM for rows read from NVMe, all tables together
  IoBackend io = IoBackend::kAuto;  // that reads table files
  // Table files are served while they are loaded; rows that are not there yet come from the file.
  bool start_early = false;
};

struct TableProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;  // of all tables
};

struct TableRequest {
  // What the model hashes with, one per Engram layer in its order. The codec is the table's own
  // business.
  std::vector<TableGeometry> wanted;
  std::array<uint8_t, 32> token_map_sha256{};  // zeros: the model has no token map
  std::vector<std::shared_ptr<const TableSource>> sources = {};  // one per wanted, or none
  TableSetOptions options = {};
  Device* device = nullptr;  // pins; null: nothing is pinned
  // Told while open() loads tables, by one thread at a time; may be empty.
  std::function<void(const TableProgress&)> progress = {};
};

// DIRECTORY/layer-<l>.engram-table
std::string table_file_path(const std::string& directory, int layer);

// INVALID_ARGUMENT names file and field, expected and found, when the file is not a table of that
// layer of the model.
Status check_table_file(
    const TableFile& file,
    const TableGeometry& wanted,
    const std::array<uint8_t, 32>& token_map_sha256);

// Constant once open, but for what the stores count and what is still being loaded. Stores are used
// by the engine's side stream, everything else by any thread.
class TableSet {
 public:
  // Returns when all tables are loaded, with start_early when loading has begun; tables in several
  // tiers are loaded whole. Errors: those of opening and loading files, of check_table_file(), of
  // parse_placement() and plan_placement(), of allocate_table_memory(). An empty `wanted` gives an
  // empty set.
  static Result<std::unique_ptr<TableSet>> open(const TableRequest& request);

  std::span<const std::unique_ptr<RowStore>> stores() const { return stores_; }
  std::vector<std::unique_ptr<RowStore>>& stores_for_test() { return stores_; }
  // Of the whole set: those of the tables, in their order. Sets of one version give the same rows.
  std::string version() const;
  std::vector<TableReport> reports() const;
  const TableSource& source(size_t table) const { return *tables_[table].source; }
  int64_t bytes() const;  // of all images
  // What was decided about the tiers, and why; none when all rows are in host memory unasked.
  const std::vector<std::string>& placement_lines() const { return lines_; }
  TableProgress progress() const;
  // Waits for what start_early left to load. The first error.
  Status wait_loaded() const;

 private:
  struct Table {
    std::shared_ptr<const TableSource> source;
    TableReport report;                       // what does not change
    std::vector<RowRange> ranges;             // in tiers; none: all in host memory
    std::shared_ptr<AttachedTable> attached;  // shared with the store; null: own memory
    // Shared with the store that reads from it.
    std::shared_ptr<TableMemory> memory;
    // Null unless it comes from a table file. Shared with the store that serves meanwhile.
    std::shared_ptr<TableLoad> load;
  };

  TableSet() = default;
  static Status open_sources(const TableRequest& request, std::vector<Table>* tables);
  static Status attach(const TableRequest& request, size_t index, Table* table);
  Status add_attached(size_t table);
  Status place(const TableRequest& request);
  static Status check_cuts(const Table& table);
  static int64_t to_load(const Table& table);
  static Status allocate(const TableRequest& request, Table* table);
  static Status start_load(
      const TableRequest& request, const std::shared_ptr<const TableFile>& file, Table* table);
  Status load(const TableRequest& request, size_t table);
  Status add_store(const TableRequest& request, size_t table);
  Status add_tiers(const TableRequest& request, size_t table);
  Result<std::unique_ptr<RowStore>> open_part(
      const TableRequest& request, size_t table, const RowRange& range);

  std::vector<Table> tables_;
  std::vector<std::unique_ptr<RowStore>> stores_;
  std::vector<std::string> lines_;
};

}  // namespace engram::memory
