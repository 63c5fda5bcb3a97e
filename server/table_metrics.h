// The Prometheus metrics of n-gram tables, by layer. One thread at a time.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <map>
#include <string>
#include <vector>

#include "memory/table/table_report.h"

namespace engram::server {

class TableMetrics {
 public:
  // The registry outlives this object.
  TableMetrics(prometheus::Registry& registry, const std::string& model_name);

  // Gauges take the values, counters grow by what was added since the last call. A table that was
  // swapped starts its counts again; the counters go on.
  void observe(const std::vector<memory::TableReport>& reports);

 private:
  using Gauges = prometheus::Family<prometheus::Gauge>;
  using Counters = prometheus::Family<prometheus::Counter>;
  // A gauge that goes when the table of its layer changes.
  struct Temporary {
    Gauges* family;
    prometheus::Gauge* gauge;
  };
  struct Layer {
    std::string version;
    std::vector<Temporary> gauges;
    memory::RowStoreStats counted;
  };

  prometheus::Labels labels(int layer) const;
  void set_temporary(Gauges& family, const prometheus::Labels& labels, double value, Layer* layer);
  void describe(const memory::TableReport& report, Layer* layer);
  void count(const memory::TableReport& report, Layer* layer);

  const std::string model_name_;
  Gauges& info_;
  Gauges& rows_;
  Gauges& bytes_;
  Gauges& huge_ratio_;
  Gauges& pinned_bytes_;
  Gauges& pin_seconds_;
  Gauges& load_seconds_;
  Gauges& load_ratio_;
  Counters& rows_read_;
  Counters& bytes_read_;
  Counters& cache_hits_;
  Counters& cache_misses_;
  Counters& file_reads_;
  Counters& file_bytes_;
  Counters& failed_rows_;
  std::map<int, Layer> layers_;
};

}  // namespace engram::server
