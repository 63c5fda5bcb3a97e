#include "server/table_metrics.h"

#include <cstdint>
#include <utility>

namespace engram::server {
namespace {

using memory::TableReport;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Labels;

Family<Gauge>& gauges(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}
Family<Counter>& counters(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

// A total that is below the last one belongs to another table.
void advance(Family<Counter>& family, const Labels& labels, int64_t total, int64_t* counted) {
  Counter& counter = family.Add(labels);
  counter.Increment(static_cast<double>(total >= *counted ? total - *counted : total));
  *counted = total;
}

std::string joined(const std::vector<int>& values) {
  std::string text;
  for (const int value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
  return text;
}

double ratio(int64_t part, int64_t whole) {
  return whole == 0 ? 1. : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

TableMetrics::TableMetrics(prometheus::Registry& registry, const std::string& model_name)
    : model_name_(model_name),
      info_(gauges(registry, "engram_table_info", "Always 1; what the table is.")),
      rows_(gauges(registry, "engram_table_rows", "Rows by tier.")),
      bytes_(gauges(registry, "engram_table_bytes", "Bytes of the rows by tier.")),
      huge_ratio_(gauges(
          registry,
          "engram_table_huge_page_ratio",
          "Share of the table's host memory that is in huge pages, 0 to 1.")),
      pinned_bytes_(gauges(registry, "engram_table_pinned_bytes", "Bytes locked in memory.")),
      pin_seconds_(gauges(registry, "engram_table_pin_seconds", "Time that locking them took.")),
      load_seconds_(
          gauges(registry, "engram_table_load_seconds", "Time of loading, so far or in all.")),
      load_ratio_(
          gauges(registry, "engram_table_load_ratio", "Loaded share of what is loaded, 0 to 1.")),
      rows_read_(counters(registry, "engram_table_rows_read_total", "Rows gathered.")),
      bytes_read_(counters(registry, "engram_table_bytes_read_total", "Bytes of rows, as stored.")),
      cache_hits_(counters(
          registry, "engram_table_cache_hits_total", "Rows of the slow tier found in its cache.")),
      cache_misses_(counters(
          registry,
          "engram_table_cache_misses_total",
          "Rows of the slow tier read from the file.")),
      file_reads_(counters(registry, "engram_table_file_reads_total", "Reads of the file.")),
      file_bytes_(
          counters(registry, "engram_table_file_bytes_total", "Bytes read, in whole blocks.")),
      failed_rows_(
          counters(registry, "engram_table_failed_rows_total", "Rows that could not be read.")) {}

Labels TableMetrics::labels(int layer) const {
  return {{"model_name", model_name_}, {"layer", std::to_string(layer)}};
}

void TableMetrics::set_temporary(Gauges& family, const Labels& labels, double value, Layer* layer) {
  Gauge& gauge = family.Add(labels);
  gauge.Set(value);
  layer->gauges.push_back({&family, &gauge});
}

// What names a version or a tier; other gauges stay with the layer.
void TableMetrics::describe(const TableReport& report, Layer* layer) {
  for (const Temporary& old : layer->gauges) old.family->Remove(old.gauge);
  layer->gauges.clear();
  layer->version = report.version;
  Labels info = labels(report.layer);
  info.emplace("version", report.version);
  info.emplace("codec", report.codec);
  info.emplace("numa_nodes", joined(report.numa_nodes));
  info.emplace("shared", report.shared ? "true" : "false");
  set_temporary(info_, info, 1, layer);
  for (const TableReport::Tier& tier : report.tiers) {
    Labels label = labels(report.layer);
    label.emplace("tier", tier.name);
    set_temporary(rows_, label, static_cast<double>(tier.rows), layer);
    set_temporary(bytes_, label, static_cast<double>(tier.bytes), layer);
  }
}

void TableMetrics::count(const TableReport& report, Layer* layer) {
  const Labels label = labels(report.layer);
  const memory::RowStoreStats& now = report.stats;
  memory::RowStoreStats* counted = &layer->counted;
  advance(rows_read_, label, now.rows_read, &counted->rows_read);
  advance(bytes_read_, label, now.bytes_read, &counted->bytes_read);
  advance(cache_hits_, label, now.cache_hits, &counted->cache_hits);
  advance(cache_misses_, label, now.cache_misses, &counted->cache_misses);
  advance(file_reads_, label, now.file_reads, &counted->file_reads);
  advance(file_bytes_, label, now.file_bytes, &counted->file_bytes);
  advance(failed_rows_, label, now.failed_rows, &counted->failed_rows);
}

void TableMetrics::observe(const std::vector<TableReport>& reports) {
  for (const TableReport& report : reports) {
    Layer& layer = layers_[report.layer];
    if (layer.gauges.empty() || layer.version != report.version) describe(report, &layer);
    const Labels label = labels(report.layer);
    huge_ratio_.Add(label).Set(report.huge_share);
    pinned_bytes_.Add(label).Set(static_cast<double>(report.pinned_bytes));
    pin_seconds_.Add(label).Set(report.pin_seconds);
    load_seconds_.Add(label).Set(report.load_seconds);
    load_ratio_.Add(label).Set(ratio(report.loaded_bytes, report.load_bytes));
    count(report, &layer);
  }
}

}  // namespace engram::server
