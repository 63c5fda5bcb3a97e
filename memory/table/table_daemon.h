// The whole of a table daemon but its command line: opens table files, takes shareable memory for
// all of them, serves at once, loads one after the other.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/table/host_arena.h"

namespace engram::memory {

struct TableDaemonOptions {
  std::vector<std::string> tables;  // table files, or directories of them
  std::string socket;
  unsigned socket_mode = 0600;
  ArenaOptions arena;  // shareable or not: they will be
  // Called from several threads with one line each. Not empty.
  std::function<void(const std::string&)> log;
};

// The table files that the options name, in order; of a directory, every file that begins as one,
// by name. NOT_FOUND when there is none.
Result<std::vector<std::string>> find_table_files(const std::vector<std::string>& paths);

// Serves until `stop` becomes readable. Errors: those of opening the files, of the memory and of
// the socket. A table that cannot be loaded is logged, and its clients are told; the others serve.
// When none could be loaded the first reason is returned. `device` pins (the CPU: locks in memory).
Status run_table_daemon(const TableDaemonOptions& options, Device* device, int stop);

}  // namespace engram::memory
