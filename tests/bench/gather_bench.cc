// Random rows of a host table: the row store against a plain loop that copies the same bytes in the
// same order, with the best prefetch distance and cache level of the same run. One thread, as the
// engine's side stream. Every row format, tables from 64 MiB to 12 GiB (those the memory holds), in
// huge pages (explicit ones when the pool has them, else transparent) and in small pages.
//
// One line per table: what reaching a random row costs when only its first line is read, each row
// after the one before, and independent rows. As much the machine itself adds with the size. And
// one of what the 64 rows of a small decode step cost by plain loads, after a pause as between two
// steps: how even the machine is, and what no fetch for a step can be quicker than.
// One line per table and format: ns per row of chunks of 8192 tokens x 16 rows, decoded to bf16 and
// to f32, and ns per single token, to bf16, with nothing of the next one begun. Behind each the
// share of the best copy loop, its time over the gather's: of a loop that writes as many bytes as
// the decoding, and in brackets of one that writes the stored bytes, of which an encoded row has
// fewer than are to be written.
// --filter matches "PAGES SIZE FORMAT", such as "huge 1.00 GiB fp8".
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "memory/base/byte_text.h"
#include "memory/device/system_limits.h"
#include "memory/table/host_arena.h"
#include "memory/table/row_store.h"
#include "tests/bench/bench.h"
#include "tests/bench/gather_rows.h"

namespace engram::bench {
namespace {

using memory::DType;
using memory::HugePages;
using memory::RowCodec;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kAhead[] = {8, 16, 32, 64};

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

// The best of the copy loops.
struct BestCopy {
  double ns = 0.;
  int64_t ahead = 0;
  int level = 0;
};

// Gathers and copies of chunks and of single tokens, to elements of one type.
struct Figures {
  double chunk = 0.;  // ns per row
  double token = 0.;  // ns per token
  BestCopy as_much;   // chunks, writing as many bytes
  BestCopy stored;    // chunks, writing the stored bytes
  double token_as_much = 0.;
  double token_stored = 0.;
};

BestCopy best_copy(const std::vector<double>& ns, size_t first) {
  BestCopy best;
  for (size_t i = 0; i < 2 * std::size(kAhead); ++i) {
    if (i > 0 && ns[first + i] >= best.ns) continue;
    best = {.ns = ns[first + i], .ahead = kAhead[i / 2], .level = i % 2 == 0 ? 1 : 2};
  }
  return best;
}

Figures measure(TableRows& rows, DType dtype, const Sizes& sizes, int rounds) {
  const int64_t element = dtype == DType::kF32 ? 4 : 2;
  std::vector<std::function<void()>> cases = {[&] { rows.gather(dtype); }};
  for (const int64_t out : {element, int64_t{0}}) {
    for (const int64_t ahead : kAhead) {
      cases.push_back([&rows, ahead, out] { rows.copy(ahead, false, out); });
      cases.push_back([&rows, ahead, out] { rows.copy(ahead, true, out); });
    }
  }
  const std::vector<double> chunk = time_in_turns(cases, rounds, sizes.tokens * kColumns);
  const std::vector<double> token = time_in_turns(
      {[&] { rows.gather_one_by_one(dtype); }, [&] { rows.copy_one_by_one(false, element); },
       [&] { rows.copy_one_by_one(true, element); }, [&] { rows.copy_one_by_one(false, 0); },
       [&] { rows.copy_one_by_one(true, 0); }},
      rounds, sizes.tokens);
  return {
      .chunk = chunk[0],
      .token = token[0],
      .as_much = best_copy(chunk, 1),
      .stored = best_copy(chunk, 1 + 2 * std::size(kAhead)),
      .token_as_much = std::min(token[1], token[2]),
      .token_stored = std::min(token[3], token[4])};
}

void print(const std::string& label, const Figures& bf16, const Figures& f32) {
  std::printf(
      "%-50s bf16 %6.1f ns/row %5.2f (%4.2f)   f32 %6.1f %5.2f (%4.2f)   copy %6.1f, stored bytes "
      "%6.1f (%lld ahead, L%d)   token %5.0f ns %5.2f (%4.2f)   %5.1f M rows/s\n",
      label.c_str(), bf16.chunk, bf16.as_much.ns / bf16.chunk, bf16.stored.ns / bf16.chunk,
      f32.chunk, f32.as_much.ns / f32.chunk, f32.stored.ns / f32.chunk, bf16.as_much.ns,
      bf16.stored.ns, static_cast<long long>(bf16.as_much.ahead), bf16.as_much.level, bf16.token,
      bf16.token_as_much / bf16.token, bf16.token_stored / bf16.token, 1e3 / bf16.chunk);
  std::fflush(stdout);
}

void measure_first_lines(
    const std::string& label, TableRows& rows, const Sizes& sizes, int rounds) {
  const std::vector<double> ns = time_in_turns(
      {[&] { rows.read_first_lines(true); }, [&] { rows.read_first_lines(false); }}, rounds,
      sizes.tokens * kColumns);
  std::printf(
      "%-50s each after the one before %6.1f ns/row   independent %6.1f\n", label.c_str(), ns[0],
      ns[1]);
  std::fflush(stdout);
}

void measure_bursts(const std::string& label, const uint8_t* data, int64_t bytes, int bursts) {
  constexpr int kRows = 64;
  constexpr int64_t kRowBytes = 256;
  constexpr int64_t kLine = 64;
  std::mt19937_64 random(7);
  std::vector<double> us;
  uint64_t sum = 0;
  for (int burst = 0; burst < bursts; ++burst) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kRows; ++i) {
      const uint8_t* row =
          data +
          static_cast<int64_t>(random() % static_cast<uint64_t>(bytes / kRowBytes)) * kRowBytes;
      for (int64_t at = 0; at < kRowBytes; at += kLine) sum += row[at];
    }
    finish_loads();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    us.push_back(took.count());
  }
  ENGRAM_CHECK(sum != 0);
  std::sort(us.begin(), us.end());
  const double mean = std::accumulate(us.begin(), us.end(), 0.) / static_cast<double>(us.size());
  std::printf(
      "%-50s mean %6.1f us   p50 %6.1f   p99 %6.1f   max %8.1f\n", label.c_str(), mean,
      us[us.size() / 2], us[us.size() * 99 / 100], us.back());
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
  {
    TableRows rows({"", RowCodec::kBf16, 128}, data, bytes, sizes);
    measure_first_lines(name + "first line of 256 B", rows, sizes, options.rounds);
  }
  constexpr int kBursts = 10000;
  measure_bursts(
      name + "64 rows of 256 B after a pause", data, bytes, options.smoke ? 20 : kBursts);
  for (const Format& format : formats) {
    TableRows rows(format, data, bytes, sizes);
    print(
        name + format.name, measure(rows, DType::kBf16, sizes, options.rounds),
        measure(rows, DType::kF32, sizes, options.rounds));
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
