#include "memory/table/table_part.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "memory/io/direct_file.h"
#include "memory/io/parallel_load.h"

namespace engram::memory {
namespace {

// Extents one after the other in memory: those of a run of rows' values, or scales.
struct Run {
  int64_t first_extent = 0;
  int64_t end_extent = 0;
  int64_t memory_at = 0;
};

Run cover(const TableHeader& h, int64_t begin, int64_t end, int64_t* memory_bytes) {
  Run run;
  run.first_extent = begin / h.extent_bytes;
  run.end_extent = (end + h.extent_bytes - 1) / h.extent_bytes;
  run.memory_at = *memory_bytes;
  *memory_bytes +=
      std::min(run.end_extent * h.extent_bytes, h.data_bytes) - run.first_extent * h.extent_bytes;
  return run;
}

// Byte `at` of the data section, which the run holds.
const uint8_t* address(const TableHeader& h, const Run& run, const uint8_t* memory, int64_t at) {
  return memory + run.memory_at + at - run.first_extent * h.extent_bytes;
}

Status read_all(const DirectFile& file, int64_t offset, int64_t bytes, uint8_t* to) {
  while (bytes > 0) {
    const ssize_t got =
        ::pread(file.descriptor(), to, static_cast<size_t>(bytes), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    const std::string where = file.path() + ", offset " + std::to_string(offset) + ": ";
    if (got < 0) return internal(where + std::strerror(errno));
    if (got == 0) return data_loss(where + "the file ends here, expected more of the table");
    offset += got;
    bytes -= got;
    to += got;
  }
  return {};
}

Status load_runs(
    const TableFile& file,
    const std::vector<Run>& runs,
    uint8_t* memory,
    const std::function<void(int64_t)>& on_bytes) {
  Result<DirectFile> opened = DirectFile::open(file.path());
  if (!opened.ok()) return opened.status();
  const DirectFile& source = opened.value();
  const TableHeader& h = file.header();
  std::vector<std::pair<int64_t, uint8_t*>> extents;
  for (const Run& run : runs) {
    for (int64_t e = run.first_extent; e < run.end_extent; ++e) {
      extents.emplace_back(e, memory + run.memory_at + (e - run.first_extent) * h.extent_bytes);
    }
  }
  std::mutex mu;  // one thread at a time tells
  return run_jobs(std::ssize(extents), 0, [&](int64_t job, void*) -> Status {
    const auto [extent, to] = extents[static_cast<size_t>(job)];
    const int64_t bytes = h.extent_size(extent);
    const int64_t offset = h.data_offset + h.extent_at(extent);
    ENGRAM_RETURN_IF_ERROR(read_all(source, offset, bytes, to));
    ENGRAM_RETURN_IF_ERROR(file.check_extent(extent, to));
    source.forget(offset, bytes);
    const std::lock_guard<std::mutex> lock(mu);
    if (on_bytes) on_bytes(bytes);
    return {};
  });
}

}  // namespace

Result<TablePart> load_table_part(
    const TableFile& file,
    int64_t first,
    int64_t end,
    const ArenaOptions& arena,
    Device* device,
    const std::function<void(int64_t)>& on_bytes) {
  const TableHeader& h = file.header();
  ENGRAM_CHECK(first >= 0);
  ENGRAM_CHECK(first < end);
  ENGRAM_CHECK(end <= h.geometry.rows);
  int64_t bytes = 0;
  std::vector<Run> runs;
  const int64_t values_begin = h.values_at + first * h.value_stride;
  runs.push_back(cover(h, values_begin, h.values_at + end * h.value_stride, &bytes));
  const int64_t scales_begin = h.scales_at + first * h.scale_stride;
  const bool apart = h.scale_stride > 0 && h.layout == RowLayout::kSplit;
  if (apart) runs.push_back(cover(h, scales_begin, h.scales_at + end * h.scale_stride, &bytes));
  Result<TableMemory> allocated = allocate_table_memory(
      "rows " + std::to_string(first) + " to " + std::to_string(end) +
          " of the n-gram table of layer " + std::to_string(h.geometry.layer),
      bytes, arena, device);
  if (!allocated.ok()) return allocated.status();
  TablePart part;
  part.memory = std::make_shared<TableMemory>(std::move(allocated).value());
  ENGRAM_RETURN_IF_ERROR(load_runs(file, runs, part.memory->data(), on_bytes));
  ENGRAM_RETURN_IF_ERROR(part.memory->settle(0, bytes));
  const uint8_t* memory = part.memory->data();
  part.place.values = address(h, runs.front(), memory, values_begin);
  part.place.value_stride = h.value_stride;
  part.place.scale_stride = h.scale_stride;
  if (h.scale_stride > 0) part.place.scales = address(h, runs.back(), memory, scales_begin);
  return part;
}

}  // namespace engram::memory
