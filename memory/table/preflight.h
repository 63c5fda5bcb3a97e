// What stands between a machine and its tables, found before any memory is taken: each finding says
// what there is, what is needed, and how it is had on a plain machine, under Docker and under
// Kubernetes. Reads the kernel's files below `root`, tries io_uring and opens one file; changes
// nothing. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/host_arena.h"

namespace engram::memory {

enum class Severity : uint8_t { kOk, kWarn, kFail };

const char* severity_name(Severity severity);  // "ok", "warn", "FAIL"

struct Finding {
  std::string what;  // "memory", "huge pages"
  Severity severity = Severity::kOk;
  std::string found = {};
  std::string needed = {};      // empty: nothing in particular
  std::string command = {};     // that fixes it on the machine; may be empty, as the next two
  std::string docker = {};      // flags of docker run
  std::string kubernetes = {};  // lines of the pod's specification
};

// Questions that no file answers. Tests put their own answers here.
struct PreflightProbes {
  std::function<Status()> io_uring;  // ok: a ring could be made and used
  std::function<Result<int64_t>(const std::string& directory)> free_bytes;
  std::function<Result<bool>(const std::string& file)> reads_directly;  // O_DIRECT is taken
};
PreflightProbes real_probes();

struct PreflightRequest {
  std::vector<int64_t> table_bytes;  // images of the tables that lie in host memory
  int64_t other_bytes = 0;  // weights, cache, staging, buffers of the loader: the peak beside them
  bool may_use_nvme = false;    // rows that do not fit are read from the table files
  ArenaOptions arena;           // as the tables will be allocated; arena.root is the root
  std::string table_file;       // one that will be read; empty: none
  std::string write_directory;  // where a conversion writes; empty: none
  int64_t write_bytes = 0;
  PreflightProbes probes = real_probes();
};

// In a fixed order, the good ones too.
std::vector<Finding> preflight(const PreflightRequest& request);

// No finding fails; with `strict`, none warns either.
bool is_go(const std::vector<Finding>& findings, bool strict);

// A few lines per finding that is not ok, one per ok finding.
std::string preflight_text(const std::vector<Finding>& findings);
// The finding on one line, for a log: "huge pages: found ..., needed ...; fix: ...".
std::string finding_line(const Finding& finding);

}  // namespace engram::memory
