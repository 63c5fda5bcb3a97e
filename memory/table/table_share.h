// The client's side of sharing: tables that a daemon holds, mapped read-only into this process. The
// daemon may end at any time, even by force: what is attached stays, for the mapping holds the
// pages. See share_protocol.h for what is said, share_server.h for the other side.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/device/numa.h"
#include "memory/table/pinned_ranges.h"
#include "memory/table/share_protocol.h"
#include "memory/table/table_header.h"

namespace engram::memory {

// The table a model wants. With an empty `id` any version serves, as long as one only fits.
struct TableWish {
  std::string id;
  TableGeometry geometry;
  std::array<uint8_t, 32> token_map_sha256{};  // zeros: the model has no token map
};

struct AttachOptions {
  // A table that the daemon still loads: how long to wait for it. After that UNAVAILABLE with the
  // percentage. 0: do not wait.
  int64_t wait_ms = 0;
  // Called while waiting, on the calling thread, about ten times a second. May be empty.
  std::function<void(int64_t bytes_done, int64_t bytes_total)> progress;
};

// One table's pages, read-only. Constant once attached but for pin(); any thread may read.
class AttachedTable {
 public:
  ~AttachedTable();
  AttachedTable(const AttachedTable&) = delete;
  AttachedTable& operator=(const AttachedTable&) = delete;

  const TableHeader& header() const { return header_; }
  const uint8_t* data() const { return views_.front().data; }  // header().data_bytes
  // Of the copies on several NUMA nodes, the one of the node the calling thread runs on.
  const uint8_t* local() const;
  // Rows of local(), for a store that this thread will read.
  RowPlace place() const { return row_place(header_, local()); }
  // Of the first copy, as the daemon found it.
  double huge_share() const { return views_.front().copy.huge_percent / 100.; }
  std::string text() const;  // "shared by /run/engram.sock: 8.00 GiB of 2 MiB hugetlb pages, ..."

  // Keeps the pages in memory beyond the daemon's life and lets a CUDA device read them. All copies
  // or none. One thread at a time; the device outlives the table.
  Status pin(Device* device);

 private:
  friend class TableClient;
  struct View {
    uint8_t* data = nullptr;
    ShareCopy copy;
  };
  AttachedTable() = default;

  std::string socket_;
  TableHeader header_;
  std::vector<View> views_;  // at least one
  NumaTopology topology_;
  double seconds_ = 0.;  // that attaching took, without waiting
  int connection_ = -1;  // open while attached, so that the daemon can count
  PinnedRanges pinned_;  // last: unpinned before the views go
};

// Errors: UNAVAILABLE: no daemon answers, or it still loads; NOT_FOUND: it has no such table;
// FAILED_PRECONDITION: the table belongs to another model (table_match.h), several fit, or the two
// sides do not understand or trust each other; PERMISSION_DENIED: the socket is not ours to use;
// DATA_LOSS: the daemon could not load it. Blocks for some seconds at most beyond wait_ms.
Result<std::shared_ptr<AttachedTable>> attach_table(
    const std::string& socket, const TableWish& wish, const AttachOptions& options);

// What a daemon holds; each entry's header was checked.
struct SharedTable {
  ShareEntry entry;
  TableHeader header;
};
Result<std::vector<SharedTable>> list_shared_tables(const std::string& socket);

}  // namespace engram::memory
