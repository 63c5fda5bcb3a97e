// A table that is served while it is still being loaded.
#pragma once

#include <memory>
#include <string>

#include "memory/base/status.h"
#include "memory/io/read_queue.h"
#include "memory/table/row_store.h"
#include "memory/table/table_file.h"
#include "memory/table/table_loader.h"

namespace engram::memory {

struct LoadingTable {
  std::shared_ptr<const TableFile> file;  // shared by loader, store and verification
  // Loads `file` into rows.place; shared because who started it reports its progress.
  std::shared_ptr<TableLoad> load;
  HostRows rows;
  // For the rows that are not loaded yet; destroyed when all are.
  std::unique_ptr<ReadQueue> queue;
};

// Rows whose extents are loaded come from memory, the others from the file; the same bits in every
// state of the load, and once it is over nothing but memory is asked. A gather never waits for the
// load. Rows from the file have not been through their extent's checksum yet: should the load find
// such an extent corrupt, the status of later gathers says that rows of it were served.
//
// When the load has failed, a token with a row that is not there fails with the load's status.
// Errors: those of make_host_row_store() and of opening the file.
Result<std::unique_ptr<RowStore>> make_loading_row_store(LoadingTable table);

}  // namespace engram::memory
