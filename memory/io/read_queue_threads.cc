#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "memory/io/read_progress.h"
#include "memory/io/read_queue.h"

namespace engram::memory {
namespace {

// A thread per read in flight: pread has no other way to have many. More than this gains nothing.
constexpr int kMostThreads = 64;

ReadDone read_now(const ReadRequest& request, int64_t piece_bytes) {
  ReadProgress read(request, piece_bytes);
  int64_t answer = 0;
  do {
    answer = ::pread(read.descriptor(), read.to(), read.bytes(), read.offset());
    if (answer < 0) answer = -errno;
  } while (!read.advance(answer));
  return read.result();
}

std::string full_name(const std::string& why) {
  return why.empty() ? "threads" : "threads (" + why + ")";
}

// One read at a time needs no thread: who waits for it reads it.
class CallerQueue : public ReadQueue {
 public:
  CallerQueue(const ReadQueueOptions& options, const std::string& why)
      : piece_bytes_(options.piece_bytes), name_(full_name(why)) {}

  std::string name() const override { return name_; }
  int depth() const override { return 1; }

 private:
  void do_submit(const ReadRequest& request) override { waiting_.push_back(request); }
  void do_wait(int64_t least, std::vector<ReadDone>* done) override {
    // Polling must get there as well.
    for (int64_t i = 0; i < std::max<int64_t>(least, 1) && !waiting_.empty(); ++i) {
      done->push_back(read_now(waiting_.front(), piece_bytes_));
      waiting_.pop_front();
    }
  }

  const int64_t piece_bytes_;
  const std::string name_;
  std::deque<ReadRequest> waiting_;
};

class ThreadQueue : public ReadQueue {
 public:
  ThreadQueue(const ReadQueueOptions& options, const std::string& why)
      : depth_(std::min(options.depth, kMostThreads)),
        piece_bytes_(options.piece_bytes),
        name_(full_name(why)) {}
  ~ThreadQueue() override;

  // The first thread; the others start when there is work for them.
  Status set_up();

  std::string name() const override { return name_; }
  int depth() const override { return depth_; }

 private:
  void do_submit(const ReadRequest& request) override;
  void do_wait(int64_t least, std::vector<ReadDone>* done) override;

  bool start_thread();
  void work();

  // Constant.
  const int depth_;
  const int64_t piece_bytes_;
  const std::string name_;

  // The thread that uses the queue.
  std::vector<std::thread> threads_;

  std::mutex mu_;
  std::condition_variable work_;      // something to read, or stopping_
  std::condition_variable answered_;  // something in done_
  // Guarded by mu_.
  std::deque<ReadRequest> waiting_;
  std::vector<ReadDone> done_;
  size_t wanted_ = 0;  // answers do_wait() sleeps for
  int idle_ = 0;       // threads that wait for work
  bool stopping_ = false;
};

Status ThreadQueue::set_up() {
  threads_.reserve(static_cast<size_t>(depth_));
  if (start_thread()) return {};
  return resource_exhausted("a thread for reading files cannot be started");
}

ThreadQueue::~ThreadQueue() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    waiting_.clear();
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool ThreadQueue::start_thread() {
  try {
    threads_.emplace_back([this] { work(); });
    return true;
  } catch (const std::system_error&) {
    return false;  // at a limit; those that run do the work
  }
}

void ThreadQueue::do_submit(const ReadRequest& request) {
  bool busy = false;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    waiting_.push_back(request);
    busy = static_cast<int>(waiting_.size()) > idle_;
  }
  work_.notify_one();
  if (busy && static_cast<int>(threads_.size()) < depth_) start_thread();
}

void ThreadQueue::do_wait(int64_t least, std::vector<ReadDone>* done) {
  std::unique_lock<std::mutex> lock(mu_);
  wanted_ = static_cast<size_t>(least);
  answered_.wait(lock, [this] { return done_.size() >= wanted_; });
  std::move(done_.begin(), done_.end(), std::back_inserter(*done));
  done_.clear();
}

void ThreadQueue::work() {
  std::unique_lock<std::mutex> lock(mu_);
  while (true) {
    ++idle_;
    work_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    --idle_;
    if (stopping_) return;
    const ReadRequest request = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    ReadDone answer = read_now(request, piece_bytes_);
    lock.lock();
    done_.push_back(std::move(answer));
    if (done_.size() >= wanted_) answered_.notify_one();
  }
}

}  // namespace

Result<std::unique_ptr<ReadQueue>> make_thread_queue(
    const ReadQueueOptions& options, const std::string& why) {
  if (options.depth == 1) return std::unique_ptr<ReadQueue>(new CallerQueue(options, why));
  std::unique_ptr<ThreadQueue> queue = std::make_unique<ThreadQueue>(options, why);
  ENGRAM_RETURN_IF_ERROR(queue->set_up());
  return std::unique_ptr<ReadQueue>(std::move(queue));
}

}  // namespace engram::memory
