// The questions about a GPU and its link that decide how rows are gathered, each with what was
// expected before anything was measured. Groups: host-read, shape, size, beside, graph (--filter).
//
// Not here: programmatic dependent launches.
#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "memory/table/row_decode_cuda.h"
#include "tests/bench/gpu/graphs.h"
#include "tests/bench/gpu/host_block.h"
#include "tests/bench/gpu/suite.h"

namespace engram::bench::gpu {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

std::vector<int> block_counts(const Rig& rig, bool smoke) {
  if (smoke) return {1, 3};
  std::vector<int> counts;
  const int all = rig.facts().multiprocessors;
  for (const int n : {1, 2, 4, 8, 16, 32, 66}) {
    if (n < all) counts.push_back(n);
  }
  counts.push_back(all);
  return counts;
}

// Is it 35 or 52 GB/s, and how many blocks does it take?
void run_host_read(Figures& figures, const Options& options) {
  Rig rig({});
  Suite suite(
      rig, figures, options, "host-read", {Limit::kUpload, Limit::kDownload, Limit::kHostRead});
  suite.tell_limits();
  const int64_t bytes = options.smoke ? kMiB / 16 : 256 * kMiB;
  const void* from = rig.pinned(bytes);
  uint32_t* sink = static_cast<uint32_t*>(rig.allocate(64));
  for (const int blocks : block_counts(rig, options.smoke)) {
    suite.add(
        {.name = "in sequence, " + std::to_string(blocks) + " blocks of 512 threads",
         .bytes = bytes,
         .limit = Limit::kUpload,
         .flush = false,
         .prediction = "35 GB/s if reads on their way are limited, else 52; full with 4 to 8",
         .enqueue = [=, &rig](int) { enqueue_read(rig.stream(), from, bytes, blocks, sink); }});
  }
  suite.run();
}

// Two that only move bytes, and the product's ring of bulk copies.
enum class Method { kLoads, kAsync, kRing };
constexpr Method kMethods[] = {Method::kLoads, Method::kAsync, Method::kRing};

// Rows of a block of host memory that are gathered as they are stored.
class Rows {
 public:
  static constexpr int kSets = 4;

  Rows(
      Rig& rig,
      const HostBlock& block,
      int64_t table_bytes,
      int64_t row_bytes,
      int64_t count,
      bool sorted)
      : rig_(rig), row_bytes_(row_bytes), count_(count), block_(block) {
    const uint64_t rows = static_cast<uint64_t>(table_bytes / row_bytes);
    std::mt19937_64 random(rows);
    ids_.resize(static_cast<size_t>(kSets * count));
    for (int64_t& id : ids_) id = static_cast<int64_t>(random() % rows);
    for (int set = 0; sorted && set < kSets; ++set) {
      std::sort(ids_.begin() + set * count, ids_.begin() + (set + 1) * count);
    }
    device_ids_ = static_cast<int64_t*>(rig.allocate(std::ssize(ids_) * 8));
    rig.device().copy(rig.stream(), device_ids_, ids_.data(), std::ssize(ids_) * 8);
    rig.stream().synchronize();
    out_ = rig.allocate(count * row_bytes);
    geometry_.codec = memory::RowCodec::kBf16;
    geometry_.row_width = row_bytes / 2;
    geometry_.rows = table_bytes / row_bytes;
    geometry_.moduli = {geometry_.rows};
    std::vector<int32_t> slots(static_cast<size_t>(count));
    std::iota(slots.begin(), slots.end(), 0);
    slots_ = rig.upload(slots);
  }

  void enqueue(Stream& stream, int round, int blocks, Method method) {
    last_ = (round + kSets) % kSets;
    if (method == Method::kRing) {
      memory::enqueue_decode_rows(
          stream,
          {.geometry = &geometry_,
           .place =
               {.values = static_cast<const uint8_t*>(block_.data()), .value_stride = row_bytes_},
           .ids = device_ids_ + last_ * count_,
           .slots = slots_,
           .tokens = count_,
           .out = memory::make_view(out_, memory::DType::kBf16, count_, geometry_.row_width),
           .kernel = memory::RowKernel::kBulk,
           .blocks = blocks});
      return;
    }
    enqueue_raw_gather(
        stream, {.table = block_.data(),
                 .row_bytes = row_bytes_,
                 .ids = device_ids_ + last_ * count_,
                 .count = count_,
                 .out = out_,
                 .blocks = blocks,
                 .method = method == Method::kLoads ? GatherMethod::kLoads : GatherMethod::kAsync});
  }

  std::string check() {
    std::vector<uint64_t> got(static_cast<size_t>(count_ * row_bytes_ / 8));
    rig_.device().copy(rig_.stream(), got.data(), out_, std::ssize(got) * 8);
    rig_.stream().synchronize();
    const int64_t words = row_bytes_ / 8;
    for (int64_t i = 0; i < std::ssize(got); ++i) {
      const int64_t row = ids_[static_cast<size_t>(last_ * count_ + i / words)];
      if (got[static_cast<size_t>(i)] !=
          block_word(static_cast<uint64_t>(row * words + i % words))) {
        return "row " + std::to_string(row) + " is wrong";
      }
    }
    return "";
  }

 private:
  Rig& rig_;
  const int64_t row_bytes_;
  const int64_t count_;
  const HostBlock& block_;
  std::vector<int64_t> ids_;
  memory::TableGeometry geometry_;
  const int32_t* slots_ = nullptr;
  int64_t* device_ids_ = nullptr;
  void* out_ = nullptr;
  int last_ = 0;
};

void add_gather(
    Suite& suite,
    Rig& rig,
    const std::shared_ptr<Rows>& rows,
    const std::string& name,
    int64_t bytes,
    int64_t count,
    int blocks,
    Method method,
    const std::string& prediction) {
  suite.add(
      {.name = name,
       .bytes = bytes,
       .rows = count,
       .limit = Limit::kHostRead,
       .prediction = prediction,
       .enqueue = [=, &rig](int round) { rows->enqueue(rig.stream(), round, blocks, method); },
       .check = [rows] { return rows->check(); }});
}

const char* method_name(Method method) {
  return method == Method::kLoads ? "loads" : method == Method::kAsync ? "cp.async" : "bulk";
}

std::string shape_prediction(int64_t row_bytes) {
  switch (row_bytes) {
    case 64:
      return "273 M rows/s if requests are limited, else over 410";
    case 128:
      return "273 M rows/s if requests are limited, else 410";
    case 256:
      return "137 M rows/s if requests are limited, else 205; full with 4 to 8 blocks";
    case 320:
      return "91 M rows/s if requests are limited, else 150";
    case 512:
      return "68 M rows/s if requests are limited, else 102";
    default:
      return "";
  }
}

std::unique_ptr<HostBlock> block_or_note(
    Figures& figures, Rig& rig, const std::string& group, Backing backing, int64_t bytes) {
  memory::Result<std::unique_ptr<HostBlock>> block = HostBlock::make(rig.device(), backing, bytes);
  if (block.ok()) return std::move(block).value();
  figures.add_missing(group, backing_name(backing), block.status().to_string());
  return nullptr;
}

// By row size, blocks, way of loading and number of rows; a table small enough for any cache of
// translations.
void run_shape(Figures& figures, const Options& options) {
  Rig rig({});
  const int64_t table =
      options.smoke ? 2 * kMiB : std::min(2 * kGiB, table_bytes(options.table_gib));
  const std::unique_ptr<HostBlock> block =
      block_or_note(figures, rig, "shape", Backing::kHuge, table);
  if (block == nullptr) return;
  Suite suite(rig, figures, options, "shape", {Limit::kHostRead});
  const std::vector<int64_t> sizes = options.smoke
                                         ? std::vector<int64_t>{64, 160}
                                         : std::vector<int64_t>{64, 128, 160, 256, 320, 512};
  const int64_t many = options.smoke ? 100 : 131'072;
  for (const int64_t size : sizes) {
    const auto rows = std::make_shared<Rows>(rig, *block, table, size, many, false);
    for (const Method method : kMethods) {
      for (const int blocks : block_counts(rig, options.smoke)) {
        add_gather(
            suite, rig, rows,
            std::to_string(size) + " B, " + method_name(method) + ", " + std::to_string(blocks) +
                " blocks",
            many * size, many, blocks, method, shape_prediction(size));
      }
    }
  }
  if (!options.smoke) {
    for (const int64_t count : {16, 384, 8192}) {
      const auto rows = std::make_shared<Rows>(rig, *block, table, 256, count, false);
      for (const Method method : kMethods) {
        add_gather(
            suite, rig, rows,
            std::to_string(count) + " rows of 256 B, " + method_name(method) + ", 8 blocks",
            count * 256, count, 8, method, count == 16 ? "3 to 5 us" : "");
      }
    }
  }
  suite.run();
}

void tell_seconds(
    Figures& figures,
    const std::string& name,
    double seconds,
    int64_t bytes,
    const std::string& words) {
  if (seconds <= 0) return;
  Figure f;
  f.group = "size";
  f.name = name;
  f.us = 1e6 * seconds;
  f.rounds = 1;
  f.bytes = bytes;
  f.prediction = words;
  f.note = "once";
  figures.add(f);
}

// By table size and backing: how far translations reach. One block per backing, of which the rows
// lie in the first part.
void run_size(Figures& figures, const Options& options) {
  const int64_t largest = options.smoke ? 2 * kMiB : table_bytes(options.table_gib);
  for (const Backing backing :
       {Backing::kDriver, Backing::kSmall, Backing::kHuge, Backing::kExplicit, Backing::kNode}) {
    if (figures.seconds_left() < 20) {
      figures.add_missing("size", backing_name(backing), "no time was left");
      continue;
    }
    Rig rig({});
    const std::unique_ptr<HostBlock> block = block_or_note(figures, rig, "size", backing, largest);
    if (block == nullptr) continue;
    const std::string name = backing_name(backing);
    const bool driver = backing == Backing::kDriver;
    const bool node = backing == Backing::kNode;
    tell_seconds(
        figures,
        name + (driver ? ": allocated and zeroed by one thread"
                : node ? ": allocated, and zeroed by all"
                       : ": touched"),
        block->touch_seconds(), largest, driver ? "2.2 to 3.1 GB/s without the zeroing" : "");
    if (!driver && !node) {
      tell_seconds(
          figures, name + ": pinned", block->pin_seconds(), largest,
          backing == Backing::kHuge ? "11 GB/s with touching" : "");
    }
    Suite suite(rig, figures, options, "size", {Limit::kHostRead});
    std::vector<int64_t> sizes;
    for (const int64_t size : {1, 4, 16, 32, 64, 96}) {
      if (size * kGiB <= largest) sizes.push_back(size * kGiB);
    }
    if (sizes.empty()) sizes.push_back(largest);
    const int64_t count = options.smoke ? 64 : 131'072;
    for (const int64_t size : sizes) {
      for (const bool sorted : {false, true}) {
        const auto rows = std::make_shared<Rows>(rig, *block, size, 256, count, sorted);
        const bool small = backing == Backing::kSmall && size >= 32 * kGiB;
        add_gather(
            suite, rig, rows,
            std::to_string(size / kGiB) + " GiB, " + name + (sorted ? ", sorted" : ", random"),
            count * 256, count, 16, Method::kLoads,
            small && !sorted ? "below 50 M rows/s"
            : small          ? ""
                             : "within 10 % of 1 GiB");
      }
    }
    suite.run();
  }
}

// What a gather on another stream takes from products that fill the GPU.
void run_beside(Figures& figures, const Options& options) {
  Rig rig({.max_tokens = 4096, .max_cols = 4096, .max_rows = 4096, .max_context = 1024});
  const int64_t table =
      options.smoke ? 2 * kMiB : std::min(2 * kGiB, table_bytes(options.table_gib));
  const std::unique_ptr<HostBlock> block =
      block_or_note(figures, rig, "beside", Backing::kHuge, table);
  if (block == nullptr) return;
  Suite suite(rig, figures, options, "beside", {});
  const int64_t n = options.smoke ? 32 : 4096;
  const View x = rig.random(DType::kBf16, n, n, 1.f);
  const View y = rig.random(DType::kBf16, n, n, 1.f);
  const engine::Matrix w = rig.weight(n, n);
  const int64_t count = options.smoke ? 64 : 131'072;
  const auto rows = std::make_shared<Rows>(rig, *block, table, 256, count, false);
  constexpr int kProducts = 8;
  const auto add = [&](int blocks, Method method) {
    const std::string beside = blocks == 0 ? "alone"
                                           : "beside a gather of " + std::to_string(blocks) +
                                                 " blocks, " + method_name(method);
    suite.add(
        {.name = "bf16 product " + std::to_string(n) + "^3, " + beside,
         .flops = 2 * n * n * n * kProducts,
         .repeats = kProducts,
         .flush = false,
         .prediction = blocks == 8 ? "at most 6 % longer: 8 of 132 multiprocessors" : "",
         .enqueue = [=, &rig](int round) {
           rig.side().synchronize();
           for (int i = 0; blocks > 0 && i < 2; ++i) {
             rows->enqueue(rig.side(), round + i, blocks, method);
           }
           for (int i = 0; i < kProducts; ++i) rig.ops().linear(rig.stream(), x, w, View(), y);
         }});
  };
  add(0, Method::kLoads);
  for (const int blocks : {4, 8, 16, 66}) add(blocks, Method::kLoads);
  for (const int blocks : {2, 4, 8}) add(blocks, Method::kRing);
  suite.run();
  rig.side().synchronize();  // before the block goes
}

void run_graph(Figures& figures, const Options& options) {
  const Rig rig({});
  constexpr int kKernels = 20;
  std::vector<double> launches, plain, early, forked, beside;
  for (int round = 0; round < options.rounds; ++round) {
    const GraphCosts costs = measure_graphs(kKernels, options.smoke ? 2 : 1000);
    launches.push_back(costs.launches_us);
    plain.push_back(costs.plain_us);
    if (costs.early_us > 0) early.push_back(costs.early_us);
    forked.push_back(costs.forked_us);
    beside.push_back(costs.beside_us);
  }
  const auto tell = [&](const std::string& name, const std::vector<double>& us, const char* words) {
    Figure f;
    f.group = "graph";
    f.name = name;
    f.prediction = words;
    const auto [low, high] = std::minmax_element(us.begin(), us.end());
    f.us = median(us);
    f.spread_percent = 100. * (*high - *low) / *f.us;
    f.rounds = static_cast<int>(us.size());
    figures.add(f);
  };
  tell("20 tiny kernels, started one by one", launches, "");
  tell("20 tiny kernels, one graph", plain, "");
  if (!early.empty()) tell("the same, each started while the one before runs", early, "");
  tell("the same with a branch beside and its join", forked, "at most 1.5 us more per edge");
  tell("the same with a kernel of another stream that the graph waits for", beside, "");
}

constexpr Group kGroups[] = {
    {"host-read", run_host_read},
    {"shape", run_shape},
    {"graph", run_graph},
    {"beside", run_beside},
    {"size", run_size}};

}  // namespace
}  // namespace engram::bench::gpu

int main(int argc, char** argv) {
  return engram::bench::gpu::run_groups(engram::bench::gpu::kGroups, argc, argv);
}
