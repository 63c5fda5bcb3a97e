// What `engram bench overhead` (and paper) found: all that goes into the JSON file, and the table
// for people. A figure that was not measured is null in the file and "-" in the table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/bench/experiment.h"

namespace engram::tools::bench {

struct MachineFacts {
  std::string cpu;
  int cores = 0;
  int64_t memory_bytes = 0;
  std::string device;     // "cpu", ...
  std::string page_mode;  // of the tables' memory
  int numa_nodes = 0;
  std::vector<int> table_nodes;  // NUMA nodes the tables lie on
  int link_generation = 0;       // PCIe, of a GPU; 0: none
  int link_width = 0;
};

struct ModelFacts {
  std::string name;
  std::string path;
  int64_t parameters = 0;  // without tables
  std::string dtype;
  int layers = 0;
  std::vector<int> engram_layers;
};

struct Peaks {
  double read_gbps = 0;
  double copy_gbps = 0;
  double link_gbps = 0;
};

// Reading a byte of each page of the tables, see Engine::touch_tables(). Right after one another
// that takes as long as memory does; longer after a while tells that the machine took pages away.
struct TablePages {
  int64_t count = 0;                    // 0: not measured
  std::vector<double> before_rounds_s;  // warm-ups too, where that was asked for
  double after_rounds_s = 0;
  double again_s = 0;  // right after that

  bool taken_away() const { return after_rounds_s > 3 * again_s; }
};

struct ReportPoint {
  PointResult result;
  int64_t table_parameters = 0;
  int64_t table_bytes = 0;
  std::string table_codec;  // row_codec_name(); empty: no tables
  bool contention = false;
  double contention_gbps = 0;  // of the second stream of traffic, payload
  TablePages pages;
  bool device_is_host = false;  // then D is H
};

struct OverheadReport {
  std::string kind = "overhead";  // or "paper"
  std::string engram_version;
  std::string date;
  std::string command;
  std::string label;
  MachineFacts machine;
  ModelFacts model;
  ExperimentOptions options;
  bool sizes_in_turns = false;  // tables of several sizes measured round by round
  int threads = 0;
  std::string activations;  // dtype
  std::string cache;        // dtype of keys and values, as --kv-cache-dtype has it; empty: none
  std::string table_codec;  // as that of the points
  std::vector<std::string> workloads;
  std::string weights;  // where weights and rows are from
  Peaks peaks;
  std::string scaled_down;  // why and by how much; empty: not
  std::vector<ReportPoint> points;
  bool interrupted = false;
};

// Whether the overhead of an arm over N is the same at all table sizes: the intervals have a value
// in common.
struct Flatness {
  std::string workload;
  int batch = 0;
  bool contention = false;
  std::string arm;
  std::string metric;
  std::vector<int64_t> table_parameters;
  std::vector<Estimate> overhead;  // one per size
  bool flat() const;
};
std::vector<Flatness> find_flatness(const std::vector<ReportPoint>& points);

// Two spaces of indentation, a line at its end.
std::string overhead_json(const OverheadReport& report);
// One point as lines of text.
std::string point_text(const ReportPoint& point);
std::string flatness_text(const Flatness& flatness);

}  // namespace engram::tools::bench
