#include "tests/bench/fio.h"

#include <stdio.h>

#include <cmath>
#include <cstdlib>
#include <sstream>
#include <vector>

namespace engram::bench {
namespace {

// What the command wrote to its standard output; empty when it could not be run or failed.
std::string output_of(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return "";
  std::string text;
  char piece[4096];
  while (const size_t got = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, got);
  return ::pclose(pipe) == 0 ? text : "";
}

std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

}  // namespace

FioResult fio_random_reads(const std::string& path, int depth, double seconds, bool threads) {
  const std::string version = output_of("fio --version");
  if (version.empty()) return {.problem = "fio is not installed", .how = {}};
  const std::string engine = threads ? "psync" : "io_uring";
  std::ostringstream command;
  // randrepeat=0: other blocks in every run.
  command << "fio --name=rows --readonly --rw=randread --bs=4096 --direct=1 --randrepeat=0"
          << " --norandommap --time_based --runtime=" << std::lround(1000. * seconds)
          << "ms --filename=" << quoted(path) << " --ioengine=" << engine
          << (threads ? " --thread --group_reporting --numjobs=" : " --iodepth=") << depth
          << " --output-format=terse --terse-version=3";
  std::istringstream report(output_of(command.str()));
  std::vector<std::string> fields;
  for (std::string field; std::getline(report, field, ';');) fields.push_back(field);
  constexpr size_t kReadIops = 7;  // of the terse report, version 3
  if (fields.size() <= kReadIops) {
    return {.problem = "fio could not read " + path + " with " + engine, .how = {}};
  }
  return {
      .iops = std::strtod(fields[kReadIops].c_str(), nullptr),
      .problem = {},
      .how = fields[1] + ", " + engine};
}

}  // namespace engram::bench
