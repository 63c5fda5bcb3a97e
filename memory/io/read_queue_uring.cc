#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "memory/io/read_progress.h"
#include "memory/io/read_queue.h"

namespace engram::memory {
namespace {

// Reads are handed to the kernel together: a system call costs as much as a small read's copying.
constexpr int kBatch = 32;

class UringQueue : public ReadQueue {
 public:
  explicit UringQueue(const ReadQueueOptions& options) : options_(options) {}
  ~UringQueue() override;

  // 0, or the reason why no ring can be used here.
  int set_up();

  std::string name() const override { return "io_uring"; }
  int depth() const override { return options_.depth; }

 private:
  void do_submit(const ReadRequest& request) override;
  void do_wait(int64_t least, std::vector<ReadDone>* done) override;

  void fill_ring();
  void prepare(size_t slot);
  void enter(unsigned wait_for);
  void break_down(int error);
  void reap();

  // Constant after set_up().
  const ReadQueueOptions options_;
  bool ready_ = false;

  // The one thread.
  io_uring ring_{};
  std::vector<ReadProgress> slots_;  // [depth], reads the kernel has or gets next
  std::vector<size_t> free_slots_;
  std::deque<size_t> prepared_;      // slots whose entries the kernel has not taken yet, in order
  std::deque<ReadRequest> backlog_;  // more than `depth`
  std::vector<ReadDone> done_;       // not yet reported
  int in_kernel_ = 0;
  Status broken_;  // why the kernel takes no more reads
};

int UringQueue::set_up() {
  io_uring_params params{};
  // The thread that waits runs the completions; others are not interrupted for them.
  params.flags = IORING_SETUP_COOP_TASKRUN;
  int error = io_uring_queue_init_params(static_cast<unsigned>(options_.depth), &ring_, &params);
  if (error == -EINVAL) {
    params = {};
    error = io_uring_queue_init_params(static_cast<unsigned>(options_.depth), &ring_, &params);
  }
  if (error < 0) return error;
  ready_ = true;
  // Setting up may be allowed and entering not; and Linux before 5.6 has no IORING_OP_READ.
  const std::unique_ptr<io_uring_probe, void (*)(io_uring_probe*)> probe(
      io_uring_get_probe_ring(&ring_), io_uring_free_probe);
  if (probe == nullptr || io_uring_opcode_supported(probe.get(), IORING_OP_READ) == 0) {
    return -EOPNOTSUPP;
  }
  io_uring_prep_nop(io_uring_get_sqe(&ring_));
  error = io_uring_submit_and_wait(&ring_, 1);
  if (error < 0) return error;
  io_uring_cqe* answer = nullptr;
  error = io_uring_peek_cqe(&ring_, &answer);
  if (error < 0) return error;
  io_uring_cqe_seen(&ring_, answer);
  slots_.resize(static_cast<size_t>(options_.depth));
  for (size_t slot = slots_.size(); slot > 0; --slot) free_slots_.push_back(slot - 1);
  return 0;
}

UringQueue::~UringQueue() {
  if (!ready_) return;
  backlog_.clear();
  // Reads of a block device cannot be called back: the kernel writes until they are done. Those it
  // has not taken are forgotten with the ring.
  while (in_kernel_ > 0) {
    io_uring_cqe* answer = nullptr;
    if (io_uring_wait_cqe(&ring_, &answer) != 0) continue;
    io_uring_cqe_seen(&ring_, answer);
    --in_kernel_;
  }
  io_uring_queue_exit(&ring_);
}

void UringQueue::do_submit(const ReadRequest& request) {
  backlog_.push_back(request);
  fill_ring();
  if (prepared_.size() >= kBatch) enter(0);
}

void UringQueue::do_wait(int64_t least, std::vector<ReadDone>* done) {
  reap();
  // Answers may wait for this thread to enter the kernel.
  if (done_.empty() && in_kernel_ > 0 && broken_.ok()) {
    static_cast<void>(io_uring_get_events(&ring_));
    reap();
  }
  while (true) {
    fill_ring();
    const int64_t missing = least - static_cast<int64_t>(done_.size());
    if (missing <= 0 && prepared_.empty()) break;
    const int64_t possible = in_kernel_ + static_cast<int64_t>(prepared_.size());
    enter(static_cast<unsigned>(std::clamp<int64_t>(missing, 0, possible)));
    reap();
  }
  std::move(done_.begin(), done_.end(), std::back_inserter(*done));
  done_.clear();
}

void UringQueue::fill_ring() {
  while (!backlog_.empty() && (!free_slots_.empty() || !broken_.ok())) {
    const ReadRequest request = backlog_.front();
    backlog_.pop_front();
    if (!broken_.ok()) {
      done_.push_back({.tag = request.tag, .status = broken_});
      continue;
    }
    const size_t slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot] = ReadProgress(request, options_.piece_bytes);
    prepare(slot);
  }
}

void UringQueue::prepare(size_t slot) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  ENGRAM_CHECK(entry != nullptr);  // one entry per slot, and the ring has `depth` at least
  const ReadProgress& read = slots_[slot];
  io_uring_prep_read(
      entry, read.descriptor(), read.to(), read.bytes(), static_cast<uint64_t>(read.offset()));
  io_uring_sqe_set_data64(entry, slot);
  prepared_.push_back(slot);
}

// Hands over what is prepared and waits for answers.
void UringQueue::enter(unsigned wait_for) {
  if (!broken_.ok()) {
    // Submitting would hand over the refused entries; answers to earlier reads come all the same.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return;
  }
  const int taken = io_uring_submit_and_wait(&ring_, wait_for);
  if (taken >= 0) {
    in_kernel_ += taken;
    prepared_.erase(prepared_.begin(), prepared_.begin() + taken);
  } else if (taken != -EINTR && taken != -EAGAIN && taken != -EBUSY) {
    break_down(-taken);
  }
}

// The kernel refuses to be entered, as a sandbox closed after set_up() makes it. Entries it has not
// taken stay in the ring, which from here on is only read.
void UringQueue::break_down(int error) {
  broken_ = internal(std::string("io_uring takes no more reads: ") + std::strerror(error));
  for (const size_t slot : prepared_) {
    done_.push_back({.tag = slots_[slot].result().tag, .status = broken_});
  }
  prepared_.clear();
}

void UringQueue::reap() {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* answer = nullptr;
  std::vector<size_t> again;
  io_uring_for_each_cqe(&ring_, head, answer) {
    ++count;
    const size_t slot = io_uring_cqe_get_data64(answer);
    if (!slots_[slot].advance(answer->res)) {
      again.push_back(slot);
      continue;
    }
    done_.push_back(slots_[slot].result());
    free_slots_.push_back(slot);
  }
  io_uring_cq_advance(&ring_, count);
  in_kernel_ -= static_cast<int>(count);
  for (const size_t slot : again) {
    if (broken_.ok()) {
      prepare(slot);
    } else {
      done_.push_back({.tag = slots_[slot].result().tag, .status = broken_});
    }
  }
}

}  // namespace

Result<std::unique_ptr<ReadQueue>> make_uring_queue(const ReadQueueOptions& options) {
  std::unique_ptr<UringQueue> queue = std::make_unique<UringQueue>(options);
  const int error = queue->set_up();
  if (error < 0) {
    const std::string message = std::string("io_uring: ") + std::strerror(-error);
    return error == -ENOMEM ? resource_exhausted(message) : failed_precondition(message);
  }
  return std::unique_ptr<ReadQueue>(std::move(queue));
}

}  // namespace engram::memory
