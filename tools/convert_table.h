// Writes one table file with progress, resume and a report beside it: what `engram convert` does
// for each layer, whatever the rows come from.
//
// OUT/layer-L.engram-table gets a companion OUT/layer-L.engram-table.json: id, source, geometry in
// short, and, when the rows were encoded anew, how far they are from the source.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/row_errors.h"
#include "memory/table/table_file.h"
#include "memory/table/table_stream.h"

namespace engram::tools {

struct TableJob {
  memory::TableGeometry geometry;  // of the file
  std::array<uint8_t, 32> token_map_sha256{};
  std::string source;  // in words that change when it changes
  std::unique_ptr<memory::RowProducer> producer;
  // Learns what it must of the whole source, and completes the geometry; null when nothing is
  // missing.
  std::function<memory::Status(TableJob*, int threads, const std::atomic<bool>* stop)> prepare;
  // One report per column, then one for all; null when the rows are the source's own. Called when
  // everything is produced.
  std::function<std::vector<memory::RowErrorReport>()> errors;
};

struct ConvertOptions {
  std::string directory;
  memory::RowLayout layout = memory::RowLayout::kSplit;
  int64_t extent_bytes = memory::kDefaultExtentBytes;
  int threads = 4;
  bool overwrite = false;
  bool verify = false;
};

std::string table_file_name(int layer);  // "layer-1.engram-table"

// Writes the table of a job, or finds that it is there already; prints what was done. CANCELLED
// when `stop` became true: what was written is kept, and the next run goes on.
memory::Status convert_table(
    TableJob* job, const ConvertOptions& options, const std::atomic<bool>* stop);

// Reads the whole file and compares all checksums, with progress; prints the result to `to`, and
// each corrupt extent to standard error. DATA_LOSS when there is one.
memory::Status verify_table(
    const memory::TableFile& file, int threads, const std::atomic<bool>* stop, std::FILE* to);

}  // namespace engram::tools
