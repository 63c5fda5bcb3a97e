#include "server/table_messages.h"

#include <cstdint>

namespace engram::server {
namespace {

uint64_t unsigned_of(int64_t value) {
  return static_cast<uint64_t>(value);
}

void describe_memory(const memory::TableReport& report, v1::TableMemory* to) {
  to->set_text(report.memory);
  to->set_huge_page_share(report.huge_share);
  to->mutable_numa_nodes()->Add(report.numa_nodes.begin(), report.numa_nodes.end());
  to->set_shared(report.shared);
  to->set_pinned_bytes(unsigned_of(report.pinned_bytes));
  to->set_touch_seconds(report.touch_seconds);
  to->set_pin_seconds(report.pin_seconds);
  for (const std::string& finding : report.findings) to->add_findings(finding);
}

void describe_load(const memory::TableReport& report, v1::TableLoad* to) {
  to->set_bytes_done(unsigned_of(report.loaded_bytes));
  to->set_bytes_total(unsigned_of(report.load_bytes));
  to->set_seconds(report.load_seconds);
  if (report.load_seconds > 0) {
    to->set_bytes_per_second(static_cast<double>(report.loaded_bytes) / report.load_seconds);
  }
  if (!report.load_method.empty()) to->set_method(report.load_method);
}

void describe_traffic(const memory::RowStoreStats& stats, v1::TableTraffic* to) {
  to->set_rows_read(unsigned_of(stats.rows_read));
  to->set_bytes_read(unsigned_of(stats.bytes_read));
  to->set_cache_hits(unsigned_of(stats.cache_hits));
  to->set_cache_misses(unsigned_of(stats.cache_misses));
  to->set_file_reads(unsigned_of(stats.file_reads));
  to->set_file_bytes(unsigned_of(stats.file_bytes));
  to->set_failed_rows(unsigned_of(stats.failed_rows));
}

}  // namespace

void describe_table(const memory::TableReport& report, v1::Table* to) {
  to->set_layer(static_cast<uint32_t>(report.layer));
  to->set_version(report.version);
  to->set_source(report.source);
  to->set_placement(report.placement);
  if (!report.gather.empty()) to->set_gather(report.gather);
  to->set_codec(report.codec);
  to->set_rows(unsigned_of(report.rows));
  to->set_columns(static_cast<uint64_t>(report.columns));
  to->set_row_width(unsigned_of(report.row_width));
  to->set_row_bytes(unsigned_of(report.row_bytes));
  to->set_bytes(unsigned_of(report.bytes));
  for (const memory::TableReport::Tier& tier : report.tiers) {
    v1::TableTier* message = to->add_tiers();
    message->set_name(tier.name);
    message->set_rows(unsigned_of(tier.rows));
    message->set_bytes(unsigned_of(tier.bytes));
  }
  if (!report.memory.empty()) describe_memory(report, to->mutable_memory());
  if (report.load_bytes > 0) describe_load(report, to->mutable_load());
  describe_traffic(report.stats, to->mutable_traffic());
}

}  // namespace engram::server
