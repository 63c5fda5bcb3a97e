#include "memory/io/read_queue.h"

#include <algorithm>

namespace engram::memory {

void ReadQueue::submit(const ReadRequest& request) {
  ENGRAM_CHECK(request.file != nullptr);
  const int64_t alignment = request.file->alignment();
  ENGRAM_CHECK(request.offset >= 0);
  ENGRAM_CHECK(request.offset % alignment == 0);
  ENGRAM_CHECK(request.bytes > 0);
  ENGRAM_CHECK(request.bytes % alignment == 0);
  ENGRAM_CHECK(reinterpret_cast<uintptr_t>(request.to) % static_cast<uintptr_t>(alignment) == 0);
  ++outstanding_;
  do_submit(request);
}

void ReadQueue::wait(int64_t least, std::vector<ReadDone>* done) {
  ENGRAM_CHECK(least >= 0);
  const size_t before = done->size();
  do_wait(std::min(least, outstanding_), done);
  outstanding_ -= static_cast<int64_t>(done->size() - before);
  ENGRAM_CHECK(outstanding_ >= 0);
}

Result<std::unique_ptr<ReadQueue>> make_read_queue(const ReadQueueOptions& options) {
  ENGRAM_CHECK(options.depth >= 1);
  ENGRAM_CHECK(options.depth <= 4096);
  ENGRAM_CHECK(options.piece_bytes > 0);
  if (options.backend == IoBackend::kThreads) return make_thread_queue(options, "");
  Result<std::unique_ptr<ReadQueue>> ring = make_uring_queue(options);
  if (ring.ok() || options.backend == IoBackend::kUring) return ring;
  return make_thread_queue(options, ring.status().message());
}

Result<std::unique_ptr<ReadQueue>> make_read_queue(IoBackend backend, int depth) {
  return make_read_queue({.backend = backend, .depth = depth});
}

}  // namespace engram::memory
