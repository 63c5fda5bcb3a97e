#include "tests/support/cuda_emulation/grid.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/cuda_emulation/fibers.h"

constinit thread_local cuda_emulation::Index3 threadIdx;
constinit thread_local cuda_emulation::Index3 blockIdx;
constinit thread_local cuda_emulation::Dim3 blockDim;
constinit thread_local cuda_emulation::Dim3 gridDim;

namespace cuda_emulation {
namespace {

constexpr unsigned kWarp = 32;

std::atomic<Order> order_of_grids = Order::kForward;
std::atomic<uint64_t> seed_of_grids = 0;

enum class State : uint8_t { kReady, kAtBarrier, kAtWarpMeeting, kEnded };

enum class Turns : uint8_t { kNone, kOnlyPolled, kSome };

// What lanes brought to where they met, until each of them has read it.
struct Meeting {
  WarpValues values;
  int readers = 0;
};

struct Thread {
  State state = State::kEnded;
  bool in_turn = false;  // waited for the kernel before
  bool polling = false;  // gave way without waiting for a thread of this block
  Index3 index;
  std::source_location at;
  unsigned mask = 0;
  std::array<std::byte, WarpValues::kBytes> value{};
  Meeting* met = nullptr;
};

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};
using SharedBytes = std::unique_ptr<void, FreeDeleter>;

SharedBytes poisoned(size_t bytes, size_t alignment) {
  void* memory = nullptr;
  if (posix_memalign(&memory, std::max(alignment, sizeof(void*)), bytes) != 0) std::abort();
  std::memset(memory, 0xff, bytes);
  return SharedBytes(memory);
}

uint64_t volume(const Dim3& d) {
  return uint64_t{d.x} * d.y * d.z;
}

Index3 at_rank(uint64_t rank, const Dim3& d) {
  return {
      static_cast<unsigned>(rank % d.x), static_cast<unsigned>(rank / d.x % d.y),
      static_cast<unsigned>(rank / d.x / d.y)};
}

std::string text(const Index3& i) {
  std::string tuple = "(";
  tuple += std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
  return tuple;
}

std::string text(const std::source_location& at) {
  return std::string(at.file_name()) + ":" + std::to_string(at.line());
}

bool same_place(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

// One OS thread's grids.
class Runner {
 public:
  void run(const GridShape& shape, const std::function<void()>& kernel);

  void wait(State state, unsigned mask, std::source_location at);
  void poll();
  // The thread has read what it met for.
  void leave_meeting(Thread& thread);
  Thread& thread() { return threads_[current_]; }
  int lane() const { return static_cast<int>(current_ % kWarp); }
  void* dynamic() { return dynamic_.get(); }
  void* fixed(const void* key, size_t bytes, size_t alignment);
  [[noreturn]] void report(const std::string& what);

 private:
  void run_block(const GridShape& shape, const std::function<void()>& kernel);
  bool run_ahead(size_t begin, size_t end);
  Turns take_turns(size_t begin, size_t end);
  bool end_barrier();
  bool end_meetings(size_t begin, size_t end);
  bool end_meeting(size_t first);
  Meeting* new_meeting();
  [[noreturn]] void report_stuck();

  FiberPool fibers_;
  std::vector<Thread> threads_;
  std::vector<size_t> turns_;
  std::vector<std::unique_ptr<Meeting>> meetings_;
  std::vector<Meeting*> free_meetings_;
  bool early_ = false;
  bool warps_in_step_ = false;  // else one warp after the other, each as far as it gets
  size_t current_ = 0;
  SharedBytes dynamic_;
  std::map<const void*, SharedBytes> fixed_;
};

void Runner::report(const std::string& what) {
  std::fprintf(stderr, "cuda emulation: block %s: %s\n", text(blockIdx).c_str(), what.c_str());
  std::fflush(stderr);
  std::abort();
}

void Runner::report_stuck() {
  std::string lines = "threads wait without end:";
  size_t named = 0;
  for (const Thread& t : threads_) {
    if (++named > 8) continue;
    lines += "\n  thread " + text(t.index);
    if (t.state == State::kEnded) lines += " has ended";
    if (t.state == State::kAtBarrier) lines += " is at the barrier of " + text(t.at);
    if (t.state == State::kAtWarpMeeting) {
      char mask[16];
      std::snprintf(mask, sizeof(mask), "0x%08x", t.mask);
      lines += " is at the warp operation of " + text(t.at) + ", mask " + mask;
    }
  }
  report(lines);
}

void Runner::wait(State state, unsigned mask, std::source_location at) {
  Thread& t = thread();
  t.state = state;
  t.mask = mask;
  t.at = at;
  fibers_.give_way();
}

void Runner::poll() {
  thread().polling = true;
  fibers_.give_way();
}

Meeting* Runner::new_meeting() {
  if (free_meetings_.empty()) {
    free_meetings_.push_back(meetings_.emplace_back(std::make_unique<Meeting>()).get());
  }
  Meeting* const meeting = free_meetings_.back();
  free_meetings_.pop_back();
  return meeting;
}

void Runner::leave_meeting(Thread& thread) {
  if (thread.met == nullptr) return;
  if (--thread.met->readers == 0) free_meetings_.push_back(thread.met);
  thread.met = nullptr;
}

void* Runner::fixed(const void* key, size_t bytes, size_t alignment) {
  SharedBytes& memory = fixed_[key];
  if (memory == nullptr) memory = poisoned(bytes, alignment);
  return memory.get();
}

// Each of these threads that can run does so until it waits.
Turns Runner::take_turns(size_t begin, size_t end) {
  Turns turns = Turns::kNone;
  for (size_t i = begin; i < end; ++i) {
    Thread& t = threads_[turns_[i]];
    if (t.state != State::kReady) continue;
    current_ = turns_[i];
    threadIdx = t.index;
    t.polling = false;
    if (!fibers_.resume(current_)) {
      t.state = State::kEnded;
      if (early_ && !t.in_turn) {
        report("thread " + text(t.index) + " ended and never waited for the kernel before");
      }
    }
    if (!t.polling) {
      turns = Turns::kSome;
    } else if (turns == Turns::kNone) {
      turns = Turns::kOnlyPolled;
    }
  }
  return turns;
}

// These threads, whole warps, run until each waits for others. False: none could run.
bool Runner::run_ahead(size_t begin, size_t end) {
  bool ran = false;
  Turns turns = Turns::kSome;
  while (turns == Turns::kSome) {
    turns = take_turns(begin, end);
    ran = ran || turns != Turns::kNone;
    if (!end_meetings(begin, end)) break;
    turns = Turns::kSome;
  }
  if (turns == Turns::kOnlyPolled) std::this_thread::yield();  // perhaps for another OS thread
  return ran;
}

bool Runner::end_barrier() {
  const auto waits = [](const Thread& t) { return t.state == State::kAtBarrier; };
  if (!std::all_of(threads_.begin(), threads_.end(), waits)) return false;
  for (Thread& t : threads_) {
    if (!same_place(t.at, threads_[0].at)) {
      report(
          "divergent barrier: thread " + text(threads_[0].index) + " is at " +
          text(threads_[0].at) + ", thread " + text(t.index) + " at " + text(t.at));
    }
    t.state = State::kReady;
  }
  return true;
}

bool Runner::end_meeting(size_t first) {
  const size_t warp = first / kWarp * kWarp;
  const Thread& one = threads_[first];
  unsigned present = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (((one.mask >> lane) & 1u) == 0 || warp + lane >= threads_.size()) continue;
    const Thread& t = threads_[warp + lane];
    if (t.state == State::kEnded) continue;
    if (t.state != State::kAtWarpMeeting || t.mask != one.mask || !same_place(t.at, one.at)) {
      return false;
    }
    present |= 1u << lane;
  }
  Meeting* const meeting = new_meeting();
  meeting->values.present = present;
  meeting->readers = std::popcount(present);
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (((present >> lane) & 1u) == 0) continue;
    Thread& t = threads_[warp + lane];
    meeting->values.of_lane[lane] = t.value;
    t.met = meeting;
    t.state = State::kReady;
  }
  return true;
}

bool Runner::end_meetings(size_t begin, size_t end) {
  bool any = false;
  for (size_t i = begin; i < end; ++i) {
    if (threads_[turns_[i]].state == State::kAtWarpMeeting) any = end_meeting(turns_[i]) || any;
  }
  return any;
}

void Runner::run_block(const GridShape& shape, const std::function<void()>& kernel) {
  fixed_.clear();
  dynamic_ = poisoned(std::max<size_t>(shape.shared_bytes, 1), 128);
  for (size_t i = 0; i < threads_.size(); ++i) {
    threads_[i] = Thread{};
    threads_[i].state = State::kReady;
    threads_[i].index = at_rank(i, shape.block);
    fibers_.start(i, &kernel);
  }
  const auto ended = [](const Thread& t) { return t.state == State::kEnded; };
  while (!std::all_of(threads_.begin(), threads_.end(), ended)) {
    bool ran = false;
    for (size_t begin = 0, end = 0; begin < turns_.size(); begin = end) {
      const size_t warp = turns_[begin] / kWarp;
      while (end < turns_.size() && (warps_in_step_ || turns_[end] / kWarp == warp)) ++end;
      ran = run_ahead(begin, end) || ran;
    }
    if (!end_barrier() && !ran) report_stuck();
  }
  for (Thread& t : threads_) leave_meeting(t);
}

void Runner::run(const GridShape& shape, const std::function<void()>& kernel) {
  const size_t threads = static_cast<size_t>(volume(shape.block));
  const uint64_t blocks = volume(shape.grid);
  early_ = shape.early;
  blockDim = shape.block;
  gridDim = shape.grid;
  blockIdx = {};
  if (threads == 0 || threads > 1024 || blocks == 0) {
    report(
        "a grid of " + std::to_string(blocks) + " blocks of " + std::to_string(threads) +
        " threads cannot be launched");
  }
  fibers_.reserve(threads);
  threads_.resize(threads);
  turns_.resize(threads);
  std::iota(turns_.begin(), turns_.end(), size_t{0});
  const Order order = order_of_grids.load();
  std::mt19937_64 random(seed_of_grids.load());
  warps_in_step_ = order == Order::kShuffled;
  if (order == Order::kReverse) std::reverse(turns_.begin(), turns_.end());
  for (uint64_t i = 0; i < blocks; ++i) {
    if (order == Order::kShuffled) std::shuffle(turns_.begin(), turns_.end(), random);
    blockIdx = at_rank(order == Order::kReverse ? blocks - 1 - i : i, shape.grid);
    run_block(shape, kernel);
  }
  fixed_.clear();
  dynamic_.reset();
}

thread_local Runner runner;

}  // namespace

void set_order(Order order, uint64_t seed) {
  order_of_grids.store(order);
  seed_of_grids.store(seed);
}

void run_grid(const GridShape& shape, const std::function<void()>& kernel) {
  runner.run(shape, kernel);
}

void block_barrier(std::source_location at) {
  runner.wait(State::kAtBarrier, 0, at);
}

void wait_for_predecessor() {
  runner.thread().in_turn = true;
}

void give_way() {
  runner.poll();
}

void* dynamic_shared() {
  return runner.dynamic();
}

void* static_shared(const void* key, size_t bytes, size_t alignment) {
  return runner.fixed(key, bytes, alignment);
}

const WarpValues& warp_meet(
    unsigned mask, const void* value, size_t bytes, std::source_location at) {
  Thread& t = runner.thread();
  if (((mask >> runner.lane()) & 1u) == 0) {
    runner.report(
        "thread " + text(t.index) + " is not in the mask of its warp operation of " + text(at));
  }
  runner.leave_meeting(t);
  std::memcpy(t.value.data(), value, bytes);
  runner.wait(State::kAtWarpMeeting, mask, at);
  return t.met->values;
}

int lane_id() {
  return runner.lane();
}

}  // namespace cuda_emulation
