// Which extents of an unfinished table file survive a crash. The journal is a file beside it:
//   8 bytes magic, u32 length of the source's name, the name, the 4096 bytes of the planned header,
//   u64 XXH3-64 of all this; then per extent u64 index, u64 checksum, u64 XXH3-64 of both
// little endian. A record is appended only after an fdatasync of the extent's data, so every record
// that reads back whole can be trusted; a torn one at the end is cut off. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/base/status.h"

namespace engram::memory {

struct JournalRecord {
  int64_t extent = 0;
  uint64_t checksum = 0;  // of the extent's data
};

class TableJournal {
 public:
  // What a journal says it is for; the next conversion must say the same to go on.
  struct Subject {
    std::string source;  // what is converted, in words that change when it changes
    std::string header;  // the encoded plan of the table
    bool operator==(const Subject&) const = default;
  };

  TableJournal() = default;
  TableJournal(TableJournal&& other) noexcept;
  TableJournal& operator=(TableJournal&& other) noexcept;
  ~TableJournal();

  // Begins an empty journal in place of an old one; it is on disk when this returns.
  static Result<TableJournal> create(const std::string& path, const Subject& subject);

  // Opens an old one to go on. NOT_FOUND when there is none, or its beginning was never finished.
  //   records  what it holds
  static Result<TableJournal> open(
      const std::string& path, Subject* subject, std::vector<JournalRecord>* records);

  // Appends and syncs.
  Status append(const std::vector<JournalRecord>& records);

 private:
  int descriptor_ = -1;
  int64_t end_ = 0;  // of what is whole
  std::string path_;
};

}  // namespace engram::memory
