// The memory half of the device seam: bytes, streams and events.
//
// A Device allocates buffers and makes streams and events, all before seal(); afterwards any
// allocation is a check failure. A Stream runs what is enqueued on it in order, on its own; events
// order one stream after another. Enqueueing never blocks and may be done by one thread at a time
// per stream. Copies between buffers are enqueued; who enqueues keeps both ends alive.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "memory/base/status.h"
#include "memory/base/tensor.h"

namespace engram::memory {

// Where an Event stands is known to its device only.
class Event {
 public:
  virtual ~Event() = default;
  // Blocks the calling host thread until the work recorded last is done. Never recorded: returns.
  virtual void synchronize() = 0;
  // True once the work recorded last is done.
  virtual bool done() const = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;
  // The event is done when everything enqueued here before is done.
  virtual void record(Event& event) = 0;
  // What is enqueued here afterwards starts after the event's last record() so far. The time this
  // stream stood still for it is added to *waited_ns, if the device times waits (may be null; in
  // memory of allocate_pinned(), of the waits of one stream only, read after the stream passed).
  virtual void wait(const Event& event, std::atomic<int64_t>* waited_ns) = 0;
  // The time from where the stream passes the first to where it passes the second is added to *ns,
  // if the device times waits. A counter as those of waits; what adds to one, waits or spans, comes
  // one after the other.
  virtual void begin_span(std::atomic<int64_t>* ns) = 0;
  virtual void end_span(std::atomic<int64_t>* ns) = 0;
  // Runs `work` on a host thread after everything enqueued before it; what is enqueued afterwards
  // waits for it. `work` makes no calls of the device, its streams or events.
  virtual void enqueue_host(std::function<void()> work) = 0;
  // Blocks the calling host thread until the stream is empty.
  virtual void synchronize() = 0;
};

// Whose work goes first where the device cannot run all of it at once.
enum class StreamPriority : uint8_t { kNormal, kHigh };

// What was enqueued on a stream once, to be enqueued again by one call.
class Recording {
 public:
  virtual ~Recording() = default;
  // Enqueues all of it, with the addresses and numbers of then; memory is read anew.
  virtual void replay(Stream& stream) = 0;
  virtual int64_t pieces() const = 0;  // kernels, copies and waits
};

// Owns bytes of one device; 64-byte aligned, zeroed. Move-only.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, int64_t bytes, void (*release)(void*, int64_t))
      : data_(data), bytes_(bytes), release_(release) {}
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        release_(other.release_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(release_, other.release_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) release_(data_, bytes_);
  }

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  void (*release_)(void*, int64_t) = nullptr;
};

// Host memory that a device may be told to keep in place.
struct HostRange {
  void* data = nullptr;
  int64_t bytes = 0;
  bool swappable = true;   // false: explicit huge pages, which the kernel never moves out
  bool read_only = false;  // mapped without the right to write
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // "cpu (2 threads, AVX3)"
  // ok, or why this device does nothing any more: UNAVAILABLE with what it reported and where. What
  // is enqueued then is dropped, as is what was enqueued and not done; nobody waits for it, events
  // count as done, and buffers hold anything. Any thread.
  virtual Status failure() const { return {}; }

  // RESOURCE_EXHAUSTED names `what`, the bytes asked for and the bytes there are. REQUIRES: not
  // sealed. Large buffers ask for transparent huge pages.
  Result<Buffer> allocate(const std::string& what, int64_t bytes);
  // The same for host memory that the device's copies and kernels reach at full speed: pinned
  // memory of a CUDA device, plain memory of the CPU.
  Result<Buffer> allocate_pinned(const std::string& what, int64_t bytes);
  int64_t allocated_bytes() const { return allocated_bytes_; }
  // After this nothing may be allocated.
  void seal() { sealed_ = true; }
  bool sealed() const { return sealed_; }

  virtual std::unique_ptr<Stream> make_stream(
      const std::string& name, StreamPriority priority = StreamPriority::kNormal) = 0;
  virtual std::unique_ptr<Event> make_event() = 0;
  // Enqueues a copy; either end may be host or device memory.
  virtual void copy(Stream& stream, void* to, const void* from, int64_t bytes) = 0;
  // Enqueues to.row(rows[i]) = from.row(rows[i]) for i < count, `from` and `rows` in pinned memory.
  // REQUIRES: equal shapes and dtypes, rows one after the other.
  virtual void copy_rows(
      Stream& stream, View to, View from, const int32_t* rows, int64_t count) = 0;
  // Enqueues the copy of `count` rows of `bytes` each, that begin every so many bytes at either
  // end.
  virtual void copy_strided(
      Stream& stream,
      void* to,
      int64_t to_stride,
      const void* from,
      int64_t from_stride,
      int64_t bytes,
      int64_t count);

  // Whether record() works here.
  virtual bool records() const { return false; }
  // Calls `work`, which enqueues on the stream and on others that it lets wait for it and that it
  // waits for, and keeps that instead of running it. A wait for an event of before becomes a wait,
  // in each replay, for what that event was recorded for last. INTERNAL or RESOURCE_EXHAUSTED says
  // what refused; nothing was enqueued then. REQUIRES: records(); `work` allocates nothing, waits
  // for nothing itself and enqueues no host work.
  virtual Result<std::unique_ptr<Recording>> record(
      Stream& stream, const std::function<void()>& work);
  // Whether host code may follow pointers into buffers of allocate().
  virtual bool host_reads_buffers() const = 0;
  // Whether kernels may read this host memory where it lies: pinned, or through the host's page
  // tables.
  virtual bool reads_host(const void* data) const = 0;
  // Whether Stream::wait() says how long it took, and spans are timed.
  virtual bool times_waits() const = 0;
  // What allocate() could still give out.
  virtual int64_t available_bytes() const = 0;

  // Keeps pages in memory and lets the device read them at full speed; they must have been touched.
  // The CPU locks them, a CUDA device registers them. Any thread. FAILED_PRECONDITION or
  // RESOURCE_EXHAUSTED says what was refused and how it is allowed; then nothing is pinned.
  // REQUIRES: whole small pages; ranges pinned at one time do not overlap.
  virtual Status pin(const HostRange& range) = 0;
  // Undoes pin() of the same range.
  virtual void unpin(const HostRange& range) = 0;
  // Host memory on one NUMA node (< 0: on any) that is pinned from the start and that kernels reach
  // through pages of 2 MiB at least, whatever the host's pages are: whole such pages, at a multiple
  // of them, that hold anything. Host code reads and writes it. Any thread, also after seal(); the
  // device outlives it. FAILED_PRECONDITION or RESOURCE_EXHAUSTED says why there is none.
  virtual Result<Buffer> allocate_host_pages(int64_t bytes, int numa_node);
  // The NUMA node the device is attached to; -1: none or unknown.
  virtual int numa_node() const = 0;

 private:
  virtual Result<Buffer> do_allocate(const std::string& what, int64_t bytes) = 0;
  virtual Result<Buffer> do_allocate_pinned(const std::string& what, int64_t bytes) = 0;

  // Start-up and engine thread.
  bool sealed_ = false;
  int64_t allocated_bytes_ = 0;
};

// `threads` <= 0: one per core this process may use (cgroup and affinity respected).
std::unique_ptr<Device> make_cpu_device(int threads);

}  // namespace engram::memory
