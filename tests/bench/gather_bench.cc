// Random rows of a host table: the row store against the copy loop one would write by hand, with
// the best prefetch distance of the same run. One thread, as the engine's side stream. Rows of
// 128, 256 and 320 bytes from a table of 8 GiB; fp8 rows beside; and the lookup of one token.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memory/table/row_store.h"
#include "tests/bench/bench.h"
#include "tests/bench/peaks.h"

namespace engram::bench {
namespace {

using memory::DType;
using memory::HostRowStore;
using memory::OwnedTable;
using memory::RowCodec;
using memory::TableGeometry;

constexpr int64_t kColumns = 16;

struct Sizes {
  int64_t table_bytes = int64_t{8} << 30;
  int64_t tokens = 8192;      // of one run
  int64_t ring_tokens = 128;  // staging that stays in cache
  int64_t runs = 64;          // with rows of their own, before rows are asked for again
};
constexpr Sizes kSmoke{.table_bytes = int64_t{8} << 20, .tokens = 64, .ring_tokens = 16, .runs = 4};

OwnedTable make_table(RowCodec codec, int64_t width, int64_t bytes) {
  TableGeometry g;
  g.codec = codec;
  g.row_width = width;
  const int64_t column_rows = bytes / (g.value_bytes() + g.scale_bytes()) / kColumns;
  for (int64_t c = 0; c < kColumns; ++c) {
    g.moduli.push_back(column_rows);
    g.offsets.push_back(c * column_rows);
  }
  g.rows = kColumns * column_rows;
  memory::Result<OwnedTable> table = memory::make_owned_table(std::move(g), "");
  if (!table.ok()) {
    std::fprintf(stderr, "%s\n", table.status().to_string().c_str());
    std::exit(1);
  }
  return std::move(table).value();
}

// One table and everything that is timed on it.
class Table {
 public:
  Table(RowCodec codec, int64_t width, const Sizes& sizes)
      : sizes_(sizes), table_(make_table(codec, width, sizes.table_bytes)), store_(*table_.store) {
    const TableGeometry& g = store_.geometry();
    fill_bytes(table_.values, std::min<int64_t>(g.rows * g.value_bytes(), 64 << 20), 5);
    if (g.scale_bytes() > 0) std::fill_n(table_.scales, g.rows * g.scale_bytes(), uint8_t{127});
    ids_.resize(static_cast<size_t>(sizes.runs * sizes.tokens * kColumns));
    slots_.resize(static_cast<size_t>(sizes.tokens));
    const int64_t row_bytes = kColumns * width * 4;
    staging_ = allocate("staging", sizes.ring_tokens * row_bytes);
    for (int64_t t = 0; t < sizes.tokens; ++t) {
      slots_[static_cast<size_t>(t)] = static_cast<int32_t>(t % sizes.ring_tokens);
    }
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < ids_.size(); ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const size_t column = i % kColumns;
      const uint64_t draw = (state >> 20) % static_cast<uint64_t>(g.moduli[column]);
      ids_[i] = g.offsets[column] + static_cast<int64_t>(draw);
    }
  }

  void gather(DType dtype) { gather(next_ids(), 0, sizes_.tokens, staging(dtype)); }

  // Token by token, each waiting for its rows.
  void gather_one_by_one(DType dtype) {
    const memory::View out = staging(dtype);
    const int64_t* ids = next_ids();
    for (int64_t t = 0; t < sizes_.tokens; ++t) {
      gather(ids + t * kColumns, t, 1, out);
    }
  }

  void copy(int64_t ahead) {
    copy_rows(
        store_.place().values, store_.geometry().value_bytes(), next_ids(),
        sizes_.tokens * kColumns, ahead, staging_.as<uint8_t>(), sizes_.ring_tokens * kColumns);
  }

  int64_t run_bytes() const {
    const TableGeometry& g = store_.geometry();
    return sizes_.tokens * kColumns * (g.value_bytes() + g.scale_bytes());
  }
  uint64_t hash() const {
    return hash_bytes(staging_.data(), std::min<int64_t>(staging_.bytes(), 1 << 20));
  }
  const HostRowStore& store() const { return store_; }
  int64_t tokens() const { return sizes_.tokens; }

 private:
  memory::View staging(DType dtype) const {
    return memory::make_view(
        staging_.data(), dtype, sizes_.ring_tokens, store_.geometry().vector_width());
  }
  void gather(const int64_t* ids, int64_t first, int64_t tokens, memory::View out) {
    ENGRAM_CHECK(store_.gather(ids, slots_.data() + first, tokens, out, &failed_).ok());
  }
  // Every run asks for other rows, so that none comes from a cache.
  const int64_t* next_ids() {
    run_ = (run_ + 1) % sizes_.runs;
    return ids_.data() + run_ * sizes_.tokens * kColumns;
  }

  const Sizes sizes_;
  const OwnedTable table_;
  HostRowStore& store_;
  memory::Buffer staging_;
  std::vector<int64_t> ids_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> failed_;
  int64_t run_ = 0;
};

void bench_bf16(Suite& suite, Table& table, const std::string& label) {
  for (const int64_t ahead : {0, 4, 8, 12, 16, 24, 32, 48}) {
    suite.add(
        {.name = label + ": copy loop, " + std::to_string(ahead) + " rows ahead",
         .bytes = table.run_bytes(),
         .run = [&table, ahead] { table.copy(ahead); }});
  }
  suite.add(
      {.name = label + ": gather to bf16",
       .bytes = table.run_bytes(),
       .run = [&table] { table.gather(DType::kBf16); },
       .hash = [&table] { return table.hash(); }});
  suite.add({.name = label + ": gather to f32", .bytes = table.run_bytes(), .run = [&table] {
               table.gather(DType::kF32);
             }});
  suite.add(
      {.name = label + ": one token at a time",
       .bytes = table.run_bytes(),
       .repeats = table.tokens(),
       .run = [&table] { table.gather_one_by_one(DType::kBf16); }});
}

void report_share(const Suite& suite, const std::string& label) {
  double best = 0.;
  for (const int64_t ahead : {0, 4, 8, 12, 16, 24, 32, 48}) {
    const double us =
        suite.median_us(label + ": copy loop, " + std::to_string(ahead) + " rows ahead");
    if (us > 0. && (best == 0. || us < best)) best = us;
  }
  const double us = suite.median_us(label + ": gather to bf16");
  if (us > 0.) std::printf("%s: gather %.3f of the best copy loop\n", label.c_str(), best / us);
}

}  // namespace

int run_gather(const Options& options) {
  const Sizes sizes = options.smoke ? kSmoke : Sizes();
  // One table at a time: two of 8 GiB would not fit everywhere.
  for (const int64_t row_bytes : {128, 256, 320}) {
    Suite suite(options);
    Table table(RowCodec::kBf16, row_bytes / 2, sizes);
    const std::string label = std::to_string(row_bytes) + " B";
    std::printf("%s: %s\n", label.c_str(), table.store().placement().c_str());
    bench_bf16(suite, table, label);
    suite.run();
    report_share(suite, label);
  }
  Suite suite(options);
  Table table(RowCodec::kF8Ue8m0, 256, sizes);
  suite.add(
      {.name = "256 fp8 + 8 scales: gather to bf16",
       .bytes = table.run_bytes(),
       .run = [&table] { table.gather(DType::kBf16); },
       .hash = [&table] { return table.hash(); }});
  suite.add(
      {.name = "256 fp8 + 8 scales: one token at a time",
       .bytes = table.run_bytes(),
       .repeats = table.tokens(),
       .run = [&table] { table.gather_one_by_one(DType::kBf16); }});
  return suite.run();
}

}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run_gather(engram::bench::parse_options(argc, argv));
}
