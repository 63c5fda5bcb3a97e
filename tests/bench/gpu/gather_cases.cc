#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/model/ngram.h"
#include "memory/table/distinct_rows.h"
#include "memory/table/row_decode_cuda.h"
#include "memory/table/row_hash.h"
#include "tests/bench/gpu/cases.h"
#include "tests/bench/gpu/host_block.h"
#include "tests/bench/gpu/suite.h"

namespace engram::bench::gpu {
namespace {

using memory::RowCodec;
using memory::RowKernel;
using memory::TableGeometry;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int kColumns = 16;  // of a token: two orders of eight heads
constexpr int kIdSets = 8;    // rounds do not read the rows of the one before
constexpr RowKernel kKernels[] = {RowKernel::kLoads, RowKernel::kAsync, RowKernel::kBulk};

TableGeometry geometry_of(RowCodec codec, int64_t row_bytes, int64_t table_bytes) {
  TableGeometry g;
  g.codec = codec;
  g.tensor_scale = 0.5f;
  g.row_width = codec == RowCodec::kBf16 ? row_bytes / 2 : row_bytes;
  g.rows = table_bytes / row_bytes;
  g.moduli.assign(kColumns, g.rows / kColumns);
  for (int64_t c = 0; c < kColumns; ++c) g.offsets.push_back(c * (g.rows / kColumns));
  g.orders = {2, 3};
  g.heads = kColumns / 2;
  g.multipliers = {0x1e3779b97f4a7c15, 0x3f58476d1ce4e5b9, 0x14d049bb133111eb};
  return g;
}

// The rows of some tokens, in several choices.
class Gather {
 public:
  Gather(Rig& rig, const void* table, const TableGeometry& geometry, int64_t rows, RowKernel kernel)
      : rig_(rig), geometry_(geometry), tokens_(rows / kColumns), kernel_(kernel) {
    std::mt19937_64 random(static_cast<uint64_t>(rows));
    ids_ = static_cast<int64_t*>(rig.pinned(kIdSets * rows * 8));
    for (int64_t i = 0; i < kIdSets * rows; ++i) {
      ids_[i] = static_cast<int64_t>(random() % static_cast<uint64_t>(geometry.rows));
    }
    // Where the engine keeps them: small arrays, written by the host shortly before.
    slots_ = static_cast<int32_t*>(rig.pinned(tokens_ * 4));
    for (int64_t t = 0; t < tokens_; ++t) slots_[t] = static_cast<int32_t>(t);
    out_ = rig.random(DType::kBf16, tokens_, geometry.vector_width(), 1.f);
    place_.values = static_cast<const uint8_t*>(table);
    place_.value_stride = geometry.value_bytes();
  }

  // From here on rows are those of random n-grams, which the kernel hashes.
  void hash_windows() {
    std::mt19937_64 random(5);
    std::vector<int32_t> windows;
    for (int64_t t = 0; t < kIdSets * tokens_; ++t) {
      std::vector<int32_t> text(memory::kWindow);
      for (int32_t& id : text) id = static_cast<int32_t>(random() % 99'092);
      windows.insert(windows.end(), text.begin(), text.end());
      engine::hash_rows(geometry_, text, memory::kWindow - 1, memory::kWindow, ids_ + t * kColumns);
    }
    windows_ = rig_.upload(windows);
    hash_.emplace(memory::DeviceRowHash::make(rig_.device(), rig_.stream(), geometry_).value());
  }

  // From here on rows are those of a prompt, of which 53 % differ; distinct: each is read once.
  void repeat_rows(bool distinct) {
    std::mt19937_64 random(6);
    const int64_t rows = tokens_ * kColumns;
    for (int64_t* set = ids_; set < ids_ + kIdSets * rows; set += rows) {
      const std::vector<int64_t> some(set, set + rows * 7 / 10);
      for (int64_t i = 0; i < rows; ++i) set[i] = some[random() % some.size()];
    }
    if (distinct) distinct_.emplace(memory::DistinctRows::make(rig_.device(), rows).value());
  }

  void enqueue(int set) {
    last_ = (set + kIdSets) % kIdSets;
    memory::RowGather gather{
        .geometry = &geometry_,
        .place = place_,
        .slots = slots_,
        .tokens = tokens_,
        .out = out_,
        .kernel = kernel_,
        .distinct = distinct_ ? &*distinct_ : nullptr};
    if (hash_) {
      gather.hash = &hash_->hash();
      gather.windows = windows_ + last_ * tokens_ * memory::kWindow;
    } else {
      gather.ids = ids_ + last_ * tokens_ * kColumns;
    }
    memory::enqueue_decode_rows(rig_.stream(), gather);
  }

  // Stored bf16 rows arrive as they are.
  std::string check() {
    if (geometry_.codec != RowCodec::kBf16) return "";
    const int64_t bytes = geometry_.value_bytes();
    std::vector<uint64_t> got(static_cast<size_t>(tokens_ * kColumns * bytes / 8));
    rig_.device().copy(rig_.stream(), got.data(), out_.data, std::ssize(got) * 8);
    rig_.stream().synchronize();
    const int64_t words = bytes / 8;
    for (int64_t i = 0; i < std::ssize(got); ++i) {
      const int64_t row = ids_[last_ * tokens_ * kColumns + i / words];
      const uint64_t wanted = block_word(static_cast<uint64_t>(row * words + i % words));
      if (got[static_cast<size_t>(i)] != wanted) return "row " + std::to_string(row) + " is wrong";
    }
    return "";
  }

 private:
  Rig& rig_;
  const TableGeometry geometry_;
  const int64_t tokens_;
  const RowKernel kernel_;
  int64_t* ids_ = nullptr;
  const int32_t* windows_ = nullptr;
  std::optional<memory::DeviceRowHash> hash_;
  std::optional<memory::DistinctRows> distinct_;
  int32_t* slots_ = nullptr;
  View out_;
  memory::RowPlace place_;
  int last_ = 0;
};

struct Table {
  const void* data;
  int64_t bytes;
  std::string name;
};

std::string kernel_text(RowKernel kernel) {
  switch (kernel) {
    case RowKernel::kLoads:
      return "";
    case RowKernel::kAsync:
      return ", cp.async";
    case RowKernel::kBulk:
      return ", bulk";
  }
  return "";
}

std::string count_text(int64_t n) {
  return n >= 1024 ? std::to_string(n / 1024) + "k" : std::to_string(n);
}

class GatherBench {
 public:
  GatherBench(Rig& rig, Suite& suite) : rig_(rig), suite_(suite) {}

  void add(const Table& table, RowCodec codec, int64_t row_bytes, int64_t rows, RowKernel kernel) {
    gathers_.push_back(std::make_unique<Gather>(
        rig_, table.data, geometry_of(codec, row_bytes, table.bytes), rows, kernel));
    Gather* gather = gathers_.back().get();
    const bool many = rows >= 8192;
    Case c{
        .name = std::string(memory::row_codec_name(codec)) + " " + std::to_string(row_bytes) +
                " B, " + count_text(rows) + " rows, " + table.name + kernel_text(kernel),
        .bytes = rows * row_bytes,
        .rows = rows,
        .limit = Limit::kHostRead,
        .enqueue = [gather](int round) { gather->enqueue(round); },
        .check = [gather] { return gather->check(); }};
    if (row_bytes == 256 && many) {
      c.prediction =
          "137 M rows/s (35 GB/s) if reads on their way are limited, 205 if not, 31 if "
          "translations are";
    }
    if (row_bytes == 256 && rows >= 131'072 && table.bytes >= 64 * kGiB) {
      c.bar = Bar{.of = "ratio", .value = 0.85, .aim = 0.95};
    }
    suite_.add(std::move(c));
  }

  // What a chunk of a prompt needs, repeats included.
  void add_prompt(const Table& table, int64_t row_bytes, int64_t rows, bool distinct) {
    gathers_.push_back(std::make_unique<Gather>(
        rig_, table.data, geometry_of(RowCodec::kBf16, row_bytes, table.bytes), rows,
        RowKernel::kBulk));
    Gather* gather = gathers_.back().get();
    gather->repeat_rows(distinct);
    const double read = distinct ? 0.53 : 1.;
    suite_.add(
        {.name = "a prompt's " + count_text(rows) + " rows of " + std::to_string(row_bytes) +
                 " B, 53 % differ, " + table.name + (distinct ? ", each read once" : ", bulk"),
         .bytes = static_cast<int64_t>(read * static_cast<double>(rows * row_bytes)),
         .rows = rows,
         .limit = Limit::kHostRead,
         .prediction = distinct ? "0.6 of the time of reading all of them" : "",
         .note = distinct ? "bytes: of those that differ" : "",
         .enqueue = [gather](int round) { gather->enqueue(round); },
         .check = [gather] { return gather->check(); }});
  }

  // One token after the other in one stream: a launch, the ids' way over the link, the rows' way.
  void add_latency(const Table& table, int64_t row_bytes) {
    gathers_.push_back(std::make_unique<Gather>(
        rig_, table.data, geometry_of(RowCodec::kBf16, row_bytes, table.bytes), kColumns,
        RowKernel::kLoads));
    Gather* gather = gathers_.back().get();
    const std::string name = "one token of 16 rows of " + std::to_string(row_bytes) + " B, ";
    suite_.add(
        {.name = name + "alone",
         .rows = kColumns,
         .prediction = "3 to 5 us",
         .note = "ids in pinned memory, no hash: two round trips of the link",
         .enqueue = [gather](int round) { gather->enqueue(round); }});
    constexpr int64_t kTurns = 64;
    suite_.add(
        {.name = name + "64 in a row",
         .rows = kColumns * kTurns,
         .repeats = kTurns,
         .prediction = "3 to 5 us",
         .note = "of one of them; without the hash",
         .enqueue = [gather](int round) {
           for (int i = 0; i < kTurns; ++i) gather->enqueue(round + i);
         }});
    gathers_.push_back(std::make_unique<Gather>(
        rig_, table.data, geometry_of(RowCodec::kBf16, row_bytes, table.bytes), kColumns,
        RowKernel::kLoads));
    Gather* hashed = gathers_.back().get();
    hashed->hash_windows();
    suite_.add(
        {.name = name + "64 in a row, hashed by the same kernel",
         .rows = kColumns * kTurns,
         .repeats = kTurns,
         .prediction = "3 to 5 us",
         .bar = Bar{.of = "us", .value = 6, .aim = 3.5, .at_least = false},
         .note = "of one of them, window to rows; slots in pinned memory",
         .enqueue =
             [hashed](int round) {
               for (int i = 0; i < kTurns; ++i) hashed->enqueue(round + i);
             },
         .check = [hashed] { return hashed->check(); }});
  }

 private:
  Rig& rig_;
  Suite& suite_;
  std::vector<std::unique_ptr<Gather>> gathers_;
};

// The delay of a single read, each address known only from the one before.
void add_chase(Suite& suite, Rig& rig) {
  constexpr int64_t kReads = 256;
  constexpr int64_t kStep = 4096 / 8 + 16;
  int64_t* chain = static_cast<int64_t*>(rig.pinned(kReads * kStep * 8));
  for (int64_t i = 0; i < kReads; ++i) chain[i * kStep] = (i + 1) % kReads * kStep;
  int64_t* sink = static_cast<int64_t*>(rig.allocate(64));
  suite.add(
      {.name = "one read of 8 B of host memory after the other",
       .repeats = kReads,
       .prediction = "0.9 to 1.3 us",
       .enqueue = [=, &rig](int) { enqueue_chase(rig.stream(), chain, kReads, sink); }});
}

}  // namespace

void run_gather(Figures& figures, const Options& options) {
  Rig rig({});
  const int64_t largest = options.smoke ? 2 * kMiB : table_bytes(options.table_gib);
  // As tables lie.
  memory::Result<std::unique_ptr<HostBlock>> block =
      HostBlock::make(rig.device(), Backing::kNode, largest);
  if (!block.ok()) {
    figures.add_missing("gather", "rows in memory of cuMemCreate", block.status().to_string());
    block = HostBlock::make(rig.device(), Backing::kHuge, largest);
  }
  if (!block.ok()) {
    figures.add_missing("gather", "all of it", block.status().to_string());
    figures.fail("gather: " + block.status().to_string());
    return;
  }
  Suite suite(rig, figures, options, "gather", {Limit::kHostRead});
  GatherBench bench(rig, suite);
  const void* data = block.value()->data();
  std::vector<int64_t> sizes = {std::min(largest, 2 * kGiB)};
  for (const int64_t size : {16 * kGiB, 64 * kGiB}) {
    if (size <= largest) sizes.push_back(size);
  }
  for (const int64_t size : sizes) {
    const Table table{data, size, std::to_string(size / kGiB) + " GiB"};
    if (options.smoke) {
      for (const RowKernel kernel : kKernels) bench.add(table, RowCodec::kBf16, 256, 32, kernel);
      bench.add(table, RowCodec::kF8Tensor, 256, 16, RowKernel::kLoads);
      for (const bool distinct : {false, true}) bench.add_prompt(table, 256, 64, distinct);
      bench.add_latency(table, 160);
      continue;
    }
    for (const RowKernel kernel : kKernels) {
      for (const int64_t rows : {16, 384, 8192, 131'072}) {
        bench.add(table, RowCodec::kF8Tensor, 256, rows, kernel);
        bench.add(table, RowCodec::kBf16, 256, rows, kernel);
      }
      for (const int64_t row_bytes : {160, 320}) {
        bench.add(table, RowCodec::kBf16, row_bytes, 131'072, kernel);
      }
    }
    for (const bool distinct : {false, true}) bench.add_prompt(table, 256, 131'072, distinct);
    bench.add_latency(table, 160);
    bench.add_latency(table, 320);
  }
  add_chase(suite, rig);
  suite.run();
}

}  // namespace engram::bench::gpu
