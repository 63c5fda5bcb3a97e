// Writes a table file so that it is either whole or not there. The extents go, in any order, into
// PATH.unfinished, directly where the file system allows it; nothing stays in the page cache. A
// journal beside it (table_journal.h) records which extents are safely on disk. After a crash, a
// full disk or Ctrl-C the next create() goes on from there: only extents recorded after an
// fdatasync count. finish() writes checksums, syncs, writes the header, syncs, renames, and syncs
// the directory; until then no file exists that TableFile opens.
//
// write_extent() may be called by several threads for different extents; everything else by one.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/table_header.h"
#include "memory/table/table_journal.h"

namespace engram::memory {

struct TableWriterOptions {
  std::string source;       // what is converted; going on requires the same
  bool replace = false;     // an existing file at the path is replaced at finish()
  bool preallocate = true;  // takes the disk space at once, so that a full disk is found at once
  bool direct = true;       // O_DIRECT if the file system allows it
  int64_t commit_bytes = int64_t{512} << 20;  // written between two commits
};

class TableWriter {
 public:
  // `plan` comes from plan_table(). Errors: ALREADY_EXISTS; FAILED_PRECONDITION: another process
  // writes it, or the unfinished file is of another source or plan; those of file_write.h.
  static Result<std::unique_ptr<TableWriter>> create(
      const std::string& path, const TableHeader& plan, const TableWriterOptions& options);
  ~TableWriter();  // leaves the unfinished file as it is

  // Removes the unfinished file and its journal, if there are any.
  static Status discard(const std::string& path);

  const TableHeader& header() const { return plan_; }
  bool direct() const { return direct_; }
  int64_t extents_resumed() const { return extents_resumed_; }  // found when it was created
  bool written(int64_t extent) const;

  // Writes one extent that is not written yet.
  //   data  [header().extent_size(extent)]; at a multiple of 4096 it needs no copy
  // After an error of a write the extent may be written again; after one of a sync every further
  // call fails, and only a new writer can go on.
  Status write_extent(int64_t extent, const void* data);

  // Syncs, and records what was written. Call it before giving up, to keep as much as possible.
  Status commit();

  // FAILED_PRECONDITION when an extent is missing. Returns the id of the table.
  Result<std::string> finish();

 private:
  TableWriter(std::string path, TableHeader plan, TableWriterOptions options);
  Status open();
  Status open_unfinished();
  Status start_fresh(const TableJournal::Subject& subject);
  Status resume(const TableJournal::Subject& subject, bool* resumed);
  Status write(const void* data, int64_t bytes, int64_t offset);
  Status publish(const std::string& checksums, const std::string& header);

  // Constant after create().
  const std::string path_;
  const std::string unfinished_;
  const TableHeader plan_;
  const TableWriterOptions options_;
  int descriptor_ = -1;
  bool direct_ = false;
  int64_t extents_resumed_ = 0;

  // Held while syncing and recording.
  std::mutex commit_mu_;
  TableJournal journal_;

  // Guarded by mu_.
  mutable std::mutex mu_;
  std::vector<uint64_t> checksums_;  // [extents]
  std::vector<bool> written_;        // [extents]
  std::vector<JournalRecord> uncommitted_;
  int64_t uncommitted_bytes_ = 0;
  Status failed_;  // the first failure of a sync
};

}  // namespace engram::memory
