// The benchmark harness: peaks of the machine and cases of a benchmark are timed in turns, round
// after round, so that both saw the same machine. One line per case: median time, spread, rate,
// share of the peak measured in the same run, and a hash of the result.
//
//   Options options = parse_options(argc, argv);
//   Suite suite(options);
//   suite.add({.name = "linear M=1 N=896 K=896", .bytes = ..., .peak = Peak::kRead, .run = ...});
//   return suite.run();
//
// --smoke: few rounds of tiny work, so that the benchmark cannot rot; its rates mean nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memory/device/device_cpu.h"

namespace engram::bench {

struct Options {
  bool smoke = false;
  int threads = 0;     // 0: every usable core
  int rounds = 7;      // of which the median is reported
  std::string filter;  // only cases whose name contains it
};

// --smoke, --threads N, --rounds N, --filter TEXT. Ends the process on anything else.
Options parse_options(int argc, char** argv);

// What a case is measured against.
enum class Peak {
  kNone,
  kRead,  // sequential reads by all threads
  kFma,   // f32 multiply-adds in registers, all threads
  kCopy,  // sequential copies by all threads, payload
  kCase,  // the rate of the case named `against`, in what it computes, or moves if nothing
};

struct Case {
  std::string name;
  int64_t bytes = 0;    // moved by one run
  int64_t flops = 0;    // done by one run
  int64_t repeats = 1;  // how many equal pieces one run consists of; the time is of one
  Peak peak = Peak::kNone;
  std::string against = {};
  std::function<void()> run;
  std::function<uint64_t()> hash = {};  // of the last run's result
};

class Suite {
 public:
  explicit Suite(const Options& options);
  ~Suite();

  const Options& options() const { return options_; }
  memory::CpuWorkers& workers() { return workers_; }

  void add(Case c);
  // Times and prints everything. The exit status.
  int run();
  // After run(): the median time of one of the case's repeats, and the measured peak, in GB/s or
  // GFLOP/s. 0 for a name that was filtered out.
  double median_us(const std::string& name) const;
  double peak_rate(Peak peak) const;

 private:
  struct Timed {
    Case work;
    std::vector<double> us = {};
  };

  void add_peaks();
  const Timed* find(const std::string& name) const;
  void print(const Timed& timed) const;

  Options options_;
  memory::CpuWorkers workers_;
  std::vector<memory::Buffer> buffers_;
  std::vector<Timed> peaks_;
  std::vector<Timed> cases_;
};

// FNV-1a.
uint64_t hash_bytes(const void* data, int64_t bytes);

// Bytes that look random, the same on every machine.
void fill_bytes(void* data, int64_t bytes, uint64_t seed);

// The buffer, or the end of the process with the reason.
memory::Buffer allocate(const std::string& what, int64_t bytes);

}  // namespace engram::bench
