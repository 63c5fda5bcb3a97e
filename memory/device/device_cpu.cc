#include "memory/device/device_cpu.h"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "memory/base/simd.h"
#include "memory/device/host_memory.h"
#include "memory/device/page_lock.h"
#include "memory/device/spin.h"
#include "memory/device/system_limits.h"

namespace engram::memory {
namespace {

// How long a waiting thread stays awake: little enough not to take a core from the workers.
constexpr std::chrono::microseconds kAwake{20};
// The same for a stream of steps that has nothing to do: longer than the host takes between two of
// them. Being woken costs the steps of a small model 5 %.
constexpr std::chrono::microseconds kAwakeBetweenSteps{50};

// Counts its records; shared with the queue items that will pass it, so that an event may be
// destroyed before its stream got there.
class EventState {
 public:
  // The number of this record.
  uint64_t begin_record() { return recorded_.fetch_add(1) + 1; }
  uint64_t last_record() const { return recorded_.load(); }
  bool passed(uint64_t record) const { return done_.load() >= record; }

  void pass(uint64_t record) {
    const std::lock_guard<std::mutex> lock(mu_);
    if (done_.load() < record) done_.store(record);
    changed_.notify_all();
  }

  void await(uint64_t record) {
    Spin spin;
    while (!passed(record)) {
      if (spin.again(kAwake)) continue;
      std::unique_lock<std::mutex> lock(mu_);
      changed_.wait(lock, [this, record] { return passed(record); });
    }
  }

 private:
  std::atomic<uint64_t> recorded_{0};  // atomic: streams of several threads may record
  std::atomic<uint64_t> done_{0};      // atomic: polled without the lock
  std::mutex mu_;
  std::condition_variable changed_;
};

class CpuEvent : public Event {
 public:
  void synchronize() override { state_->await(state_->last_record()); }
  bool done() const override { return state_->passed(state_->last_record()); }
  const std::shared_ptr<EventState>& state() const { return state_; }

 private:
  // Shared with queue items, see EventState.
  std::shared_ptr<EventState> state_ = std::make_shared<EventState>();
};

class WorkerStream : public CpuStream {
 public:
  // What has priority works beside the steps, not between them.
  WorkerStream(const std::string& name, StreamPriority priority)
      : awake_(priority == StreamPriority::kHigh ? kAwake : kAwakeBetweenSteps),
        thread_([this] { loop(); }) {
    pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str());
  }

  // Finishes what was enqueued.
  ~WorkerStream() override {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      stop_ = true;
      wake_.notify_one();
    }
    thread_.join();
  }

  void enqueue(std::function<void()> work) override {
    const std::lock_guard<std::mutex> lock(mu_);
    queue_.push_back(std::move(work));
    enqueued_.store(enqueued_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    if (asleep_) wake_.notify_one();
  }

  void enqueue_host(std::function<void()> work) override { enqueue(std::move(work)); }

  void record(Event& event) override {
    std::shared_ptr<EventState> state = static_cast<CpuEvent&>(event).state();
    const uint64_t record = state->begin_record();
    enqueue([state = std::move(state), record] { state->pass(record); });
  }

  void wait(const Event& event, std::atomic<int64_t>* waited_ns) override {
    std::shared_ptr<EventState> state = static_cast<const CpuEvent&>(event).state();
    const uint64_t record = state->last_record();
    enqueue([state = std::move(state), record, waited_ns] {
      if (state->passed(record)) return;
      const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
      state->await(record);
      if (waited_ns == nullptr) return;
      const std::chrono::nanoseconds waited = std::chrono::steady_clock::now() - begin;
      waited_ns->fetch_add(waited.count());
    });
  }

  void begin_span(std::atomic<int64_t>* ns) override {
    enqueue([this, ns] { span_begins_[ns] = std::chrono::steady_clock::now(); });
  }
  void end_span(std::atomic<int64_t>* ns) override {
    enqueue([this, ns] {
      const std::chrono::nanoseconds span = std::chrono::steady_clock::now() - span_begins_.at(ns);
      ns->fetch_add(span.count());
    });
  }

  void synchronize() override {
    CpuEvent event;
    record(event);
    event.synchronize();
  }

 private:
  void loop() {
    std::vector<std::function<void()>> batch;
    uint64_t taken = 0;
    for (;;) {
      Spin spin;
      while (enqueued_.load(std::memory_order_acquire) == taken && spin.again(awake_)) {
      }
      {
        std::unique_lock<std::mutex> lock(mu_);
        asleep_ = true;
        wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
        asleep_ = false;
        if (queue_.empty()) return;
        batch.swap(queue_);
      }
      taken += batch.size();
      for (std::function<void()>& work : batch) {
        work();
        work = nullptr;  // what it owns goes before what follows it runs
      }
      batch.clear();
    }
  }

  const std::chrono::microseconds awake_;

  // The worker's.
  std::map<std::atomic<int64_t>*, std::chrono::steady_clock::time_point> span_begins_;

  // Guarded by mu_.
  std::mutex mu_;
  std::condition_variable wake_;
  std::vector<std::function<void()>> queue_;
  bool asleep_ = false;
  bool stop_ = false;

  std::atomic<uint64_t> enqueued_{0};  // atomic: polled by the worker before it takes the lock
  std::thread thread_;                 // last: starts when the rest is there
};

class ThreadsDevice : public CpuDevice {
 public:
  explicit ThreadsDevice(int threads) : workers_(threads) {}

  std::string name() const override {
    const int n = workers_.threads();
    return "cpu (" + std::to_string(n) + (n == 1 ? " thread, " : " threads, ") + simd_target() +
           ")";
  }
  CpuWorkers& workers() override { return workers_; }
  std::unique_ptr<Stream> make_stream(const std::string& name, StreamPriority priority) override {
    return std::make_unique<WorkerStream>(name, priority);
  }
  std::unique_ptr<Event> make_event() override { return std::make_unique<CpuEvent>(); }

  void copy(Stream& stream, void* to, const void* from, int64_t bytes) override {
    ENGRAM_CHECK(bytes >= 0);
    if (bytes == 0) return;
    as_cpu(stream).enqueue(
        [to, from, bytes] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
  }

  void copy_rows(Stream& stream, View to, View from, const int32_t* rows, int64_t count) override {
    const int64_t bytes = to.cols * dtype_bytes(to.dtype);
    as_cpu(stream).enqueue([=] {
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(
            to.as<char>() + rows[i] * bytes, from.as<char>() + rows[i] * bytes,
            static_cast<size_t>(bytes));
      }
    });
  }
  bool host_reads_buffers() const override { return true; }
  bool times_waits() const override { return true; }
  bool reads_host(const void*) const override { return true; }
  int64_t available_bytes() const override { return memory::available_bytes(""); }

  Status pin(const HostRange& range) override { return lock_pages(range); }
  void unpin(const HostRange& range) override { unlock_pages(range); }
  int numa_node() const override { return -1; }

 private:
  Result<Buffer> do_allocate(const std::string& what, int64_t bytes) override {
    return allocate_host(what, bytes);
  }
  Result<Buffer> do_allocate_pinned(const std::string& what, int64_t bytes) override {
    return allocate_host(what, bytes);
  }

  CpuWorkers workers_;
};

}  // namespace

CpuDevice& as_cpu(Device& device) {
  return static_cast<CpuDevice&>(device);
}

CpuStream& as_cpu(Stream& stream) {
  return static_cast<CpuStream&>(stream);
}

std::unique_ptr<Device> make_cpu_device(int threads) {
  return std::make_unique<ThreadsDevice>(threads > 0 ? threads : usable_cores());
}

}  // namespace engram::memory
