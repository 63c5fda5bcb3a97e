// Cases of a benchmark of a GPU and the limits they are measured against: all take turns, round
// after round, timed by events of the GPU, with its caches full of something else before each. One
// thread.
//
//   Suite suite(rig, figures, options, "linear", {Limit::kRead});
//   suite.add({.name = "qkv M=1", .bytes = ..., .limit = Limit::kRead, .enqueue = ...});
//   suite.run();
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/gpu/figures.h"
#include "tests/bench/gpu/rig.h"

namespace engram::bench::gpu {

enum class Limit {
  kNone,
  kRead,        // of the GPU's memory, by a kernel
  kCopy,        // the same by the driver, bytes read and written
  kUpload,      // host to device by a copy engine, 256 MB of pinned memory
  kDownload,    // the opposite direction
  kHostRead,    // of pinned host memory in sequence, by a kernel on all multiprocessors
  kMultiply,    // bf16 matrix product 8192^3, FLOP/s
  kRoof,        // the longer of reading `bytes` at kRead and computing `flops` at kMultiply
  kAddedRoofs,  // the sum of both
};
const char* limit_name(Limit limit);

struct Case {
  std::string name;
  int64_t bytes = 0;    // of one run, all repeats
  int64_t flops = 0;    // likewise
  int64_t rows = 0;     // likewise, gathered
  int64_t tokens = 0;   // likewise, computed
  int64_t repeats = 1;  // equal pieces of one run; the time told is of one
  Limit limit = Limit::kNone;
  bool flush = true;  // false: what is in the caches may stay
  std::string prediction = {};
  std::optional<Bar> bar = {};
  std::string note = {};
  std::function<void(int round)> enqueue;
  // After the last round: why the result is wrong; empty: it is right.
  std::function<std::string()> check = {};
};

class Suite {
 public:
  // `limits`: those the cases need, measured beside them. Their own figures are only told by
  // add_limits(), in the group that is about them.
  Suite(
      Rig& rig,
      Figures& figures,
      const Options& options,
      const std::string& group,
      const std::vector<Limit>& limits);

  void add(Case c);
  void run();
  double rate(Limit limit) const;  // GB/s or GFLOP/s, after run()
  // Also tells the limits as figures of the group.
  void tell_limits() { tell_limits_ = true; }
  // After run(): the median time of one repeat; 0: not measured.
  double us(const std::string& name) const;

 private:
  struct Timed {
    Case work;
    std::vector<double> us = {};
  };

  void add_limit(Limit limit);
  void flush();
  void time(Timed& timed, int round);
  void tell(const Timed& timed);
  // Microseconds that the case's limit allows; 0: none.
  double allowed_us(const Case& c) const;

  Rig& rig_;
  Figures& figures_;
  const Options options_;
  const std::string group_;
  bool tell_limits_ = false;
  Timer timer_;
  void* other_ = nullptr;  // what the caches are filled with
  int64_t other_bytes_ = 0;
  uint32_t* sink_ = nullptr;
  std::map<Limit, Timed> limits_;
  std::vector<Timed> cases_;
};

}  // namespace engram::bench::gpu
