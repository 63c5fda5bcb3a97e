// One read on its way through the kernel: what to ask for next, given what came so far. Shared by
// the backends of ReadQueue, which make the calls. Any one thread at a time.
#pragma once

#include <cstdint>

#include "memory/base/status.h"
#include "memory/io/read_queue.h"

namespace engram::memory {

class ReadProgress {
 public:
  ReadProgress() = default;
  // `piece_bytes`: the largest single call, rounded down to the file's alignment but at least that.
  ReadProgress(const ReadRequest& request, int64_t piece_bytes);

  // The next call.
  int descriptor() const { return request_.file->descriptor(); }
  void* to() const { return static_cast<char*>(request_.to) + done_; }
  int64_t offset() const { return request_.offset + done_; }
  unsigned bytes() const;

  // Takes the kernel's answer, a count or -errno. True when the read is over; result() tells how.
  bool advance(int64_t answer);
  ReadDone result() const { return {.tag = request_.tag, .status = status_}; }

 private:
  bool fail(Status status);
  bool advance_short(int64_t count);

  ReadRequest request_;
  int64_t piece_bytes_ = 0;
  int64_t done_ = 0;  // bytes that are there
  int retries_ = 0;
  Status status_;
};

}  // namespace engram::memory
