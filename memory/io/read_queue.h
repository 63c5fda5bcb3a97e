// Many reads in flight, answered in any order. One thread at a time uses a queue, and a thread that
// submitted lives until its reads are done; what is read into stays valid until the read is
// reported or the queue is destroyed, which waits for what the kernel already has.
//
// Short reads are continued, interrupted ones repeated: a read is done when every byte is there or
// when it failed for good. Two backends: io_uring, and threads with pread where io_uring is
// forbidden (seccomp, kernel.io_uring_disabled).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/direct_file.h"

namespace engram::memory {

struct ReadRequest {
  const DirectFile* file = nullptr;
  int64_t offset = 0;  // offset, bytes and address: multiples of file->alignment()
  int64_t bytes = 0;   // at least 1 block
  void* to = nullptr;
  uint64_t tag = 0;  // comes back with the answer
};

struct ReadDone {
  uint64_t tag = 0;
  // OK: all bytes are there. DATA_LOSS: the file ended. UNAVAILABLE: the system had no memory or
  // kept saying "again". INTERNAL: any other error, such as EIO. Names path, offset and reason.
  Status status = {};
};

class ReadQueue {
 public:
  virtual ~ReadQueue() = default;
  virtual std::string name()
      const = 0;                  // "io_uring"; "threads (io_uring: Operation not permitted)"
  virtual int depth() const = 0;  // reads in flight at most

  // Queues a read; never waits. Beyond `depth` reads wait for their turn. Reads may be held back
  // to be started together, at the latest by the next wait().
  void submit(const ReadRequest& request);

  // Starts what is queued and appends the reads that are done, at least `least` of them or all
  // there are. wait(0) does not block.
  void wait(int64_t least, std::vector<ReadDone>* done);

  int64_t outstanding() const { return outstanding_; }  // submitted and not yet reported

 private:
  virtual void do_submit(const ReadRequest& request) = 0;
  // 0 <= least <= outstanding().
  virtual void do_wait(int64_t least, std::vector<ReadDone>* done) = 0;

  int64_t outstanding_ = 0;
};

enum class IoBackend { kAuto, kUring, kThreads };

struct ReadQueueOptions {
  IoBackend backend = IoBackend::kAuto;
  // 1 to 4096. The threads backend has at most 64 threads, and none at depth 1, where wait() reads
  // on the calling thread.
  int depth = 64;
  int64_t piece_bytes = int64_t{512} << 20;  // of one call to the kernel, whose limit is 2 GiB
};

// kAuto takes io_uring where a ring can be set up and used, else threads; name() says which and
// why. kUring where it is forbidden: FAILED_PRECONDITION. No memory or threads: RESOURCE_EXHAUSTED.
Result<std::unique_ptr<ReadQueue>> make_read_queue(const ReadQueueOptions& options);
Result<std::unique_ptr<ReadQueue>> make_read_queue(IoBackend backend, int depth);

// The backends, for the function above. `why` goes into name() unless it is empty.
Result<std::unique_ptr<ReadQueue>> make_uring_queue(const ReadQueueOptions& options);
Result<std::unique_ptr<ReadQueue>> make_thread_queue(
    const ReadQueueOptions& options, const std::string& why);

}  // namespace engram::memory
