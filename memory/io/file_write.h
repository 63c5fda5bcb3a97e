// Writing files so that they survive a crash: positioned writes, syncs of files and directories,
// atomic names. Errors name the file and say what to do: RESOURCE_EXHAUSTED for a full disk, a
// quota or a file size limit, PERMISSION_DENIED, INTERNAL for the rest. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "memory/base/status.h"

namespace engram::memory {

// The status of a system call that failed with `error` (an errno) while doing `what` to `path`.
Status write_error(const std::string& path, const std::string& what, int error);

// Writes all of from[0, bytes) at `offset`.
Status write_at(
    int descriptor, const std::string& path, const void* from, int64_t bytes, int64_t offset);

// fdatasync; after a failure what was written before it is unknown.
Status sync_data(int descriptor, const std::string& path);

// Syncs the directory that holds `path`, so that creations, renames and removals in it last.
Status sync_directory_of(const std::string& path);

// Writes a small file under another name, syncs it and renames it.
Status write_text_file(const std::string& path, const std::string& text);

}  // namespace engram::memory
