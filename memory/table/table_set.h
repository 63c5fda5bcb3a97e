// The tables of a model, opened the way the options ask for: one row store per Engram layer, what
// is known about each, and the source each can be checked against.
//
// Tables come from table files (DIRECTORY/layer-<l>.engram-table), or from sources the caller has
// (the checkpoint's tensors). A file that does not belong to the model is refused before memory is
// taken, and the message names the field.
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
#include "memory/table/geometry.h"
#include "memory/table/host_arena.h"
#include "memory/table/row_store.h"
#include "memory/table/table_file.h"
#include "memory/table/table_report.h"
#include "memory/table/table_source.h"

namespace engram::memory {

struct TableSetOptions {
  std::string directory = {};  // of table files; empty: the caller's sources
  ArenaOptions arena = {};
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
  // Told while tables are loaded, by one thread at a time; may be empty.
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

// Constant once open, but for what the stores count. Stores are used by the engine's side stream,
// everything else by any thread.
class TableSet {
 public:
  // Errors: those of opening and loading files, of check_table_file(), of
  // allocate_table_memory(). An empty `wanted` gives an empty set.
  static Result<std::unique_ptr<TableSet>> open(const TableRequest& request);

  std::span<const std::unique_ptr<RowStore>> stores() const { return stores_; }
  std::vector<std::unique_ptr<RowStore>>& stores_for_test() { return stores_; }
  // Of the whole set: those of the tables, in their order. Sets of one version give the same rows.
  std::string version() const;
  std::vector<TableReport> reports() const;
  const TableSource& source(size_t table) const { return *tables_[table].source; }
  int64_t bytes() const;  // of all images

 private:
  struct Table {
    std::shared_ptr<const TableSource> source;
    TableReport report;  // as of the opening
  };

  TableSet() = default;
  static Result<std::vector<std::shared_ptr<const TableSource>>> open_sources(
      const TableRequest& request);
  Status load(
      const TableRequest& request,
      std::shared_ptr<const TableSource> source,
      TableProgress* progress);

  std::vector<Table> tables_;
  std::vector<std::unique_ptr<RowStore>> stores_;
};

}  // namespace engram::memory
