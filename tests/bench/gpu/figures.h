// What a benchmark of a GPU found: a line for the reader as soon as it is known, and a line of JSON
// for tools/gpu_check. One thread.
//
// A figure is a median over rounds. Its prediction was written before anything was measured on a
// GPU; its bar is the project's target. Both are words about it, and neither fails a run.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace engram::bench::gpu {

struct Options {
  bool smoke = false;
  int rounds = 15;
  std::string filter;    // only groups whose name contains it
  std::string json;      // file; empty: none
  double seconds = 0;    // after which no new work is begun; 0: no limit
  double table_gib = 0;  // largest table in host memory; 0: by the memory there is
};

// --smoke, --rounds N, --filter GROUP, --json FILE, --seconds N, --table-gib N. Ends the process on
// anything else.
Options parse_options(int argc, char** argv);

struct Bar {
  std::string of;  // the member of Figure it is about: "us", "ratio", "datasheet_share", "percent"
  double value = 0;
  double aim = 0;
  bool at_least = true;  // false: at most
};

struct Figure {
  std::string group;
  std::string name;
  std::optional<double> us;  // of one piece of work; none: not measured, `note` says why
  double spread_percent = 0;
  int rounds = 0;
  int64_t bytes = 0;
  int64_t flops = 0;
  int64_t rows = 0;    // gathered
  int64_t tokens = 0;  // computed
  std::string limit;   // what `ratio` is a share of
  double limit_rate = 0;
  std::optional<double> ratio;
  std::optional<double> datasheet_share;  // of the H200's 4.8 TB/s or 989 TFLOP/s
  std::optional<double> percent;          // of two arms: how much slower this one is
  std::string prediction;
  std::optional<Bar> bar;
  std::string note;
};

class Figures {
 public:
  explicit Figures(const Options& options);
  ~Figures();

  void add(const Figure& figure);
  // Something that was not measured, and why.
  void add_missing(const std::string& group, const std::string& name, const std::string& why);
  // Something did not give the right result: the program's exit status.
  void fail(const std::string& what);
  int status() const { return failed_ ? 1 : 0; }
  double seconds_left() const;

 private:
  const Options options_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::FILE* json_ = nullptr;
  bool failed_ = false;
};

// What --filter chooses by its name.
struct Group {
  const char* name;
  void (*run)(Figures&, const Options&);
};

// Runs the groups one after another; those for which no time is left are told. The exit status.
int run_groups(std::span<const Group> groups, int argc, char** argv);

double median(std::vector<double> values);

}  // namespace engram::bench::gpu
