// What is known about one table while it serves: where its rows are, what memory was obtained, how
// far it is loaded, what was read. Plain data, for people, metrics and the admin service.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/table/row_store.h"

namespace engram::memory {

struct TableReport {
  struct Tier {
    std::string name;  // "host", "nvme", "hbm"
    int64_t rows = 0;
    int64_t bytes = 0;
  };

  int layer = 0;  // block index in the model
  std::string version;
  std::string source;     // path of the table file, the checkpoint's directory, or the socket
  std::string placement;  // one line: "host, 97 % huge pages"
  std::string gather;     // how rows reach a GPU: "loads; from 23 tokens bulk"; empty: no choice
  std::string codec;      // row_codec_name()
  int64_t rows = 0;
  int columns = 0;
  int64_t row_width = 0;  // elements
  int64_t row_bytes = 0;  // as stored, scales included
  int64_t bytes = 0;      // of all rows as stored, gaps included
  std::vector<Tier> tiers;

  // Host memory; empty or zero where the table has none of its own.
  std::string memory;      // one line
  bool shared = false;     // the pages belong to another process
  double huge_share = 0.;  // 0..1
  std::vector<int> numa_nodes;
  int64_t pinned_bytes = 0;
  double touch_seconds = 0.;
  double pin_seconds = 0.;
  std::vector<std::string> findings;  // what was refused, and how it is allowed

  // Loading.
  int64_t load_bytes = 0;  // to be loaded; 0: nothing
  int64_t loaded_bytes = 0;
  double load_seconds = 0.;  // so far, or that it took
  std::string load_method;   // "io_uring, 2 threads, direct"

  RowStoreStats stats;
};

}  // namespace engram::memory
