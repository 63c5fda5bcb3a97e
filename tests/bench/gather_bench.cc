// Random rows of a host table: the row store against a plain loop that copies the same bytes in the
// same order, with the best prefetch distance and cache level of the same run. One thread, as the
// engine's side stream. Every row format, tables from 64 MiB to 12 GiB (those the memory holds), in
// huge pages (explicit ones when the pool has them, else transparent) and in small pages.
//
// One line per table and format: ns per row of chunks of 8192 tokens x 16 rows, decoded to bf16 and
// to f32, ns per single token, and the shares of the copy loop: its time over the gather's.
// --filter matches "PAGES SIZE FORMAT", such as "huge 1.00 GiB fp8".
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memory/base/byte_text.h"
#include "memory/device/system_limits.h"
#include "memory/table/host_arena.h"
#include "memory/table/row_store.h"
#include "tests/bench/bench.h"
#include "tests/bench/peaks.h"

namespace engram::bench {
namespace {

using memory::DType;
using memory::HostRowStore;
using memory::HugePages;
using memory::RowCodec;
using memory::RowPlace;
using memory::TableGeometry;

constexpr int64_t kColumns = 16;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kAhead[] = {8, 16, 32, 64};

struct Format {
  const char* name;
  RowCodec codec;
  int64_t width;
  bool interleaved = false;
};
constexpr Format kFormats[] = {
    {"bf16 128 B", RowCodec::kBf16, 64},
    {"bf16 256 B", RowCodec::kBf16, 128},
    {"bf16 320 B", RowCodec::kBf16, 160},
    {"fp8 + ue8m0 264 B, split", RowCodec::kF8Ue8m0, 256},
    {"fp8 + ue8m0 264 B, interleaved", RowCodec::kF8Ue8m0, 256, true},
    {"fp8, tensor scale, 160 B", RowCodec::kF8Tensor, 160},
    {"int8 272 B, interleaved", RowCodec::kInt8, 256, true},
    {"int4 144 B, interleaved", RowCodec::kInt4, 256, true},
};

struct Sizes {
  int64_t tokens = 8192;      // of one run
  int64_t ring_tokens = 128;  // staging that stays in cache
  int64_t runs = 16;          // with rows of their own, before rows are asked for again
};

// A format laid over the bytes of a table, with what is timed on it.
class Rows {
 public:
  Rows(const Format& format, uint8_t* data, int64_t bytes, const Sizes& sizes)
      : sizes_(sizes), failed_() {
    TableGeometry g;
    g.codec = format.codec;
    g.row_width = format.width;
    g.tensor_scale = 0.01f;
    value_bytes_ = g.value_bytes();
    scale_bytes_ = g.scale_bytes();
    const int64_t stride = value_bytes_ + scale_bytes_;
    const int64_t column_rows = bytes / stride / kColumns;
    for (int64_t c = 0; c < kColumns; ++c) {
      g.moduli.push_back(column_rows);
      g.offsets.push_back(c * column_rows);
    }
    g.rows = kColumns * column_rows;
    place_ = {data, nullptr, value_bytes_, scale_bytes_};
    if (scale_bytes_ > 0) place_.scales = data + g.rows * value_bytes_;
    if (format.interleaved) place_ = {data, data + value_bytes_, stride, stride};
    draw_ids(g);
    staging_ = allocate("staging", sizes.ring_tokens * kColumns * (format.width * 4 + 64));
    width_ = g.vector_width();
    memory::Result<std::unique_ptr<HostRowStore>> store = memory::make_host_row_store(
        std::move(g),
        {.place = place_, .bytes = bytes, .owner = {}, .where = "host", .version = "0"});
    ENGRAM_CHECK(store.ok());
    store_ = std::move(store).value();
  }

  void gather(DType dtype) { gather_tokens(dtype, sizes_.tokens); }
  // Token by token, each waiting for its rows.
  void gather_one_by_one() { gather_tokens(DType::kBf16, 1); }
  void copy(int64_t ahead, bool second_level) { copy_tokens(sizes_.tokens, ahead, second_level); }
  void copy_one_by_one(bool second_level) { copy_tokens(1, kColumns, second_level); }

 private:
  void draw_ids(const TableGeometry& g) {
    ids_.resize(static_cast<size_t>(sizes_.runs * sizes_.tokens * kColumns));
    slots_.resize(static_cast<size_t>(sizes_.tokens));
    for (int64_t t = 0; t < sizes_.tokens; ++t) {
      slots_[static_cast<size_t>(t)] = static_cast<int32_t>(t % sizes_.ring_tokens);
    }
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < ids_.size(); ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const size_t column = i % kColumns;
      const uint64_t draw = (state >> 20) % static_cast<uint64_t>(g.moduli[column]);
      ids_[i] = g.offsets[column] + static_cast<int64_t>(draw);
    }
  }
  void gather_tokens(DType dtype, int64_t at_a_time) {
    const memory::View out = memory::make_view(staging_.data(), dtype, sizes_.ring_tokens, width_);
    const int64_t* ids = next_ids();
    for (int64_t t = 0; t < sizes_.tokens; t += at_a_time) {
      const memory::Status status =
          store_->gather(ids + t * kColumns, slots_.data() + t, at_a_time, out, &failed_);
      ENGRAM_CHECK(status.ok());
    }
  }
  void copy_tokens(int64_t at_a_time, int64_t ahead, bool second_level) {
    const int64_t* ids = next_ids();
    for (int64_t t = 0; t < sizes_.tokens; t += at_a_time) {
      copy_rows(
          {.place = place_,
           .value_bytes = value_bytes_,
           .scale_bytes = scale_bytes_,
           .ids = ids + t * kColumns,
           .count = at_a_time * kColumns,
           .ahead = ahead,
           .second_level = second_level,
           .to = staging_.as<uint8_t>(),
           .ring_rows = sizes_.ring_tokens * kColumns});
    }
  }
  // Every run asks for other rows, so that none comes from a cache that is smaller than the table.
  const int64_t* next_ids() {
    run_ = (run_ + 1) % sizes_.runs;
    return ids_.data() + run_ * sizes_.tokens * kColumns;
  }

  const Sizes sizes_;
  int64_t value_bytes_ = 0;
  int64_t scale_bytes_ = 0;
  int64_t width_ = 0;
  RowPlace place_;
  std::unique_ptr<HostRowStore> store_;
  memory::Buffer staging_;
  std::vector<int64_t> ids_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> failed_;
  int64_t run_ = 0;
};

// Medians of cases that take turns, round after round; ns of one of `pieces`.
std::vector<double> time_in_turns(
    const std::vector<std::function<void()>>& cases, int rounds, int64_t pieces) {
  std::vector<std::vector<double>> ns(cases.size());
  for (int round = 0; round <= rounds; ++round) {
    for (size_t i = 0; i < cases.size(); ++i) {
      const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
      cases[i]();
      const std::chrono::duration<double, std::nano> taken =
          std::chrono::steady_clock::now() - begin;
      if (round > 0) ns[i].push_back(taken.count() / static_cast<double>(pieces));
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& of_case : ns) {
    std::sort(of_case.begin(), of_case.end());
    medians.push_back(of_case[of_case.size() / 2]);
  }
  return medians;
}

void measure(const std::string& label, Rows& rows, const Sizes& sizes, int rounds) {
  std::vector<std::function<void()>> cases = {
      [&] { rows.gather(DType::kBf16); }, [&] { rows.gather(DType::kF32); }};
  for (const int64_t ahead : kAhead) {
    cases.push_back([&rows, ahead] { rows.copy(ahead, false); });
    cases.push_back([&rows, ahead] { rows.copy(ahead, true); });
  }
  const std::vector<double> chunk = time_in_turns(cases, rounds, sizes.tokens * kColumns);
  const auto best = std::min_element(chunk.begin() + 2, chunk.end());
  const int64_t which = best - chunk.begin() - 2;
  const std::vector<double> token = time_in_turns(
      {[&] { rows.gather_one_by_one(); }, [&] { rows.copy_one_by_one(false); },
       [&] { rows.copy_one_by_one(true); }},
      rounds, sizes.tokens);
  const double token_copy = std::min(token[1], token[2]);
  std::printf(
      "%-50s bf16 %6.1f ns/row %5.2f   f32 %6.1f %5.2f   copy %6.1f (%lld ahead, L%d)   "
      "token %5.0f ns %5.2f   %5.1f M rows/s\n",
      label.c_str(), chunk[0], *best / chunk[0], chunk[1], *best / chunk[1], *best,
      static_cast<long long>(kAhead[which / 2]), which % 2 == 0 ? 1 : 2, token[0],
      token_copy / token[0], 1e3 / chunk[0]);
  std::fflush(stdout);
}

// Every format on one table. Its bytes are no NaN in any of them; what they are does not matter.
void bench_table(const Options& options, HugePages huge, int64_t bytes, const Sizes& sizes) {
  const std::string name =
      (huge == HugePages::kOff ? "small " : "huge ") + memory::format_bytes(bytes) + " ";
  std::vector<Format> formats;
  for (const Format& format : kFormats) {
    if ((name + format.name).find(options.filter) != std::string::npos) formats.push_back(format);
  }
  if (formats.empty()) return;
  memory::ArenaOptions arena;
  arena.huge = huge;
  memory::Result<memory::TableMemory> table =
      memory::allocate_table_memory("benchmark", bytes, arena, nullptr);
  if (!table.ok()) {
    std::printf("%sskipped: %s\n", name.c_str(), table.status().message().c_str());
    return;
  }
  std::printf("%s: %s\n", name.c_str(), table.value().report().text().c_str());
  uint8_t* data = table.value().data();
  std::memset(data, 0x5a, static_cast<size_t>(bytes));
  for (const Format& format : formats) {
    Rows rows(format, data, bytes, sizes);
    measure(name + format.name, rows, sizes, options.rounds);
  }
}

}  // namespace

int run_gather(const Options& options) {
  Sizes sizes;
  std::vector<int64_t> tables = {64 * kMiB, 256 * kMiB, 1024 * kMiB, 4096 * kMiB, 12288 * kMiB};
  if (options.smoke) {
    sizes = {.tokens = 64, .ring_tokens = 16, .runs = 4};
    tables = {8 * kMiB};
  }
  for (const HugePages huge : {HugePages::kAuto, HugePages::kOff}) {
    for (const int64_t bytes : tables) bench_table(options, huge, bytes, sizes);
  }
  return 0;
}

}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run_gather(engram::bench::parse_options(argc, argv));
}
