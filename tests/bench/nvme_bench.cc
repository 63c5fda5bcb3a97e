// Rows from a file on the device: random rows against the device's own random-read rate, which fio
// measures on the same file between the rounds; one token at a time; and a stream of n-grams as
// frequent as Zipf says, for deduplication and the row cache.
//
// The file is made first, in the folder for temporary files (TMPDIR), and removed at the end.
// --filter takes "random", "sweep" (of queue depths), "token" or "zipf".
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "memory/base/byte_text.h"
#include "memory/table/row_store_nvme.h"
#include "memory/table/synthetic_rows.h"
#include "memory/table/table_writer.h"
#include "tests/bench/bench.h"
#include "tests/bench/fio.h"
#include "tests/support/or_die.h"
#include "tests/support/temp_directory.h"

namespace engram::bench {
namespace {

using memory::DType;
using memory::FileRows;
using memory::NvmeOptions;
using memory::NvmeRowStore;
using memory::NvmeStats;
using memory::RowCodec;
using memory::RowLayout;
using memory::TableFile;
using memory::TableGeometry;
using tests::ok_or_die;
using tests::value_or_die;

constexpr int kColumns = 24;  // 2-, 3- and 4-grams by 8 heads, as DeepSeek-V4.1-Flash has
constexpr int kHeads = 8;
constexpr int kGathers = 2;  // of one round

struct Sizes {
  int64_t table_bytes = int64_t{4} << 30;
  int64_t random_rows = 32768;  // of one round
  double fio_seconds = 0.7;     // of one round
  int64_t single_tokens = 2000;
  int64_t zipf_chunks = 12;
  int64_t zipf_chunk = 2048;   // tokens
  int64_t ngrams = 4'000'000;  // distinct, per order
};
constexpr Sizes kSmoke{
    .table_bytes = int64_t{24} << 20,
    .random_rows = 480,
    .fio_seconds = 0.2,
    .single_tokens = 20,
    .zipf_chunks = 3,
    .zipf_chunk = 16,
    .ngrams = 10000};

double seconds_of(const auto& work) {
  const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0.;
  std::sort(values.begin(), values.end());
  const double index = share * static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(std::lround(index))];
}

// splitmix64: the n-th number of its sequence.
uint64_t mix(uint64_t n) {
  uint64_t x = (n + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

TableGeometry make_geometry(int64_t table_bytes) {
  TableGeometry g;
  g.codec = RowCodec::kF8Ue8m0;
  g.row_width = 256;
  g.heads = kHeads;
  g.orders = {2, 3, 4};
  g.multipliers = {1, 3, 5, 7};
  const int64_t column_rows = table_bytes / (g.value_bytes() + g.scale_bytes()) / kColumns;
  for (int64_t c = 0; c < kColumns; ++c) {
    g.moduli.push_back(column_rows);
    g.offsets.push_back(c * column_rows);
  }
  g.rows = kColumns * column_rows;
  return g;
}

std::shared_ptr<const TableFile> write_table(
    const std::string& path, int64_t table_bytes, RowLayout layout) {
  const memory::TableHeader plan = value_or_die(
      memory::plan_table(make_geometry(table_bytes), layout, memory::kDefaultExtentBytes, {}));
  const auto writer = value_or_die(memory::TableWriter::create(path, plan, {.source = "bench"}));
  memory::Buffer extent = allocate("extent", plan.extent_bytes);
  // What rows hold does not change how long reading them takes; all extents get the same bytes, but
  // not such that a device could tell.
  fill_bytes(extent.data(), plan.extent_bytes, 7);
  for (int64_t i = 0; i < plan.extents(); ++i) {
    *extent.as<int64_t>() = i;
    ok_or_die(writer->write_extent(i, extent.data()));
  }
  value_or_die(writer->finish());
  return value_or_die(TableFile::open(path));
}

std::unique_ptr<NvmeRowStore> open_store(const TableFile& file, const NvmeOptions& options) {
  const TableGeometry& g = file.header().geometry;
  return value_or_die(memory::make_nvme_row_store(
      g, value_or_die(memory::open_file_rows(file, 0, g.rows)), options));
}

// Row ids and a place for the rows.
class Calls {
 public:
  Calls(const TableGeometry& geometry, int64_t tokens)
      : geometry_(geometry),
        ids_(static_cast<size_t>(tokens * kColumns)),
        slots_(static_cast<size_t>(tokens)) {
    for (size_t t = 0; t < slots_.size(); ++t) slots_[t] = static_cast<int32_t>(t % kOutRows);
    out_ = allocate("rows", kOutRows * geometry.vector_width() * 2);
  }

  template <typename Random>
  void draw_uniform(Random& random) {
    for (size_t i = 0; i < ids_.size(); ++i) {
      const size_t column = i % kColumns;
      ids_[i] = geometry_.offsets[column] +
                static_cast<int64_t>(random() % static_cast<uint64_t>(geometry_.moduli[column]));
    }
  }

  // The n-gram of each order by Zipf's law; its heads' rows by a hash of it.
  template <typename Random>
  void draw_zipf(const std::vector<double>& cumulative, Random& random) {
    std::uniform_real_distribution<double> uniform(0., cumulative.back());
    for (size_t i = 0; i < ids_.size(); i += kHeads) {
      const auto rank = std::upper_bound(cumulative.begin(), cumulative.end(), uniform(random));
      const uint64_t ngram = static_cast<uint64_t>(rank - cumulative.begin());
      for (size_t h = 0; h < kHeads; ++h) {
        const size_t column = (i + h) % kColumns;
        const uint64_t hash = mix(ngram * kColumns + column);
        ids_[i + h] = geometry_.offsets[column] +
                      static_cast<int64_t>(hash % static_cast<uint64_t>(geometry_.moduli[column]));
      }
    }
  }

  void gather(memory::RowStore& store, int64_t first, int64_t tokens) {
    failed_.clear();
    const memory::Status status = store.gather(
        ids_.data() + first * kColumns, slots_.data() + first, tokens,
        memory::make_view(out_.data(), DType::kBf16, kOutRows, geometry_.vector_width()), &failed_);
    ok_or_die(status);
  }

  int64_t tokens() const { return static_cast<int64_t>(slots_.size()); }
  uint64_t hash() const { return hash_bytes(out_.data(), out_.bytes()); }

 private:
  static constexpr int64_t kOutRows = 128;

  const TableGeometry& geometry_;
  std::vector<int64_t> ids_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> failed_;
  memory::Buffer out_;
};

// Random 4 KiB reads by a queue and nothing else: what one would write by hand.
class PlainReads {
 public:
  PlainReads(const TableFile& file, std::unique_ptr<memory::ReadQueue> queue)
      : file_(file),
        direct_(value_or_die(file.open_direct())),
        memory_(allocate("blocks", (queue->depth() + 1) * kBlock)),
        queue_(std::move(queue)) {
    const uint64_t address = reinterpret_cast<uint64_t>(memory_.data());
    blocks_ = memory_.as<uint8_t>() + (kBlock - address % kBlock) % kBlock;
  }

  // Reads per second with the queue kept full.
  double rate(double seconds) {
    for (int i = 0; i < queue_->depth(); ++i) submit(static_cast<uint64_t>(i));
    int64_t reads = 0;
    const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    double taken = 0.;
    while (taken < seconds) {
      wait(1);
      for (const memory::ReadDone& one : done_) submit(one.tag);
      reads += static_cast<int64_t>(done_.size());
      taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    wait(queue_->outstanding());
    return static_cast<double>(reads) / taken;
  }

  // Reads `count` blocks, all at once.
  void batch(int count) {
    for (int i = 0; i < count; ++i) submit(static_cast<uint64_t>(i));
    wait(count);
  }

 private:
  static constexpr int64_t kBlock = 4096;

  void submit(uint64_t tag) {
    const uint64_t count = static_cast<uint64_t>(file_.header().data_bytes / kBlock);
    const int64_t block = static_cast<int64_t>(random_() % count);
    queue_->submit(
        {.file = &direct_,
         .offset = file_.header().data_offset + block * kBlock,
         .bytes = kBlock,
         .to = blocks_ + static_cast<int64_t>(tag) * kBlock,
         .tag = tag});
  }
  void wait(int64_t least) {
    done_.clear();
    queue_->wait(least, &done_);
    for (const memory::ReadDone& one : done_) {
      ok_or_die(one.status);
    }
  }

  const TableFile& file_;
  const memory::DirectFile direct_;
  const memory::Buffer memory_;
  uint8_t* blocks_ = nullptr;
  std::mt19937_64 random_{17};
  std::vector<memory::ReadDone> done_;
  std::unique_ptr<memory::ReadQueue> queue_;  // destroyed first: its reads write into the blocks
};

// The device's own rate, and who measured it.
struct Limit {
  double iops = 0.;
  std::string how;
};

Limit measure_limit(const TableFile& file, const NvmeOptions& options, double seconds) {
  auto queue = value_or_die(memory::make_read_queue(options.backend, options.depth));
  const bool threads = queue->name() != "io_uring";
  const FioResult fio = fio_random_reads(file.path(), queue->depth(), seconds, threads);
  if (fio.iops > 0.) return {fio.iops, fio.how};
  return {
      PlainReads(file, std::move(queue)).rate(seconds),
      fio.problem + ": a plain loop of this program"};
}

void bench_random(
    const TableFile& file,
    const std::string& layout,
    const NvmeOptions& options,
    const Sizes& sizes,
    int rounds) {
  const std::unique_ptr<NvmeRowStore> store = open_store(file, options);
  Calls calls(file.header().geometry, sizes.random_rows / kColumns);
  std::mt19937_64 random(11);
  std::vector<double> shares;
  std::vector<double> limits;
  std::vector<double> row_rates;
  std::vector<double> read_rates;
  // A shared device's rate drifts: every round is compared with what was measured around it.
  Limit limit = measure_limit(file, options, sizes.fio_seconds);
  for (int round = 0; round < rounds; ++round) {
    const double before = limit.iops;
    double seconds = 0.;
    const int64_t reads_before = store->nvme_stats().reads;
    for (int i = 0; i < kGathers; ++i) {
      calls.draw_uniform(random);
      seconds += seconds_of([&] { calls.gather(*store, 0, calls.tokens()); });
    }
    const double reads = static_cast<double>(store->nvme_stats().reads - reads_before);
    limit = measure_limit(file, options, sizes.fio_seconds);
    limits.push_back((before + limit.iops) / 2);
    read_rates.push_back(reads / seconds);
    row_rates.push_back(static_cast<double>(kGathers * calls.tokens() * kColumns) / seconds);
    shares.push_back(read_rates.back() / limits.back());
  }
  std::printf(
      "random %s, depth %d: %.0f rows/s, %.0f reads/s; limit %.0f reads/s (%s); share %.3f "
      "(%.3f to %.3f), hash %016llx\n",
      layout.c_str(), options.depth, quantile(row_rates, 0.5), quantile(read_rates, 0.5),
      quantile(limits, 0.5), limit.how.c_str(), quantile(shares, 0.5), quantile(shares, 0.),
      quantile(shares, 1.), static_cast<unsigned long long>(calls.hash()));
}

void bench_token(const TableFile& file, const std::string& layout, const Sizes& sizes) {
  const std::unique_ptr<NvmeRowStore> store = open_store(file, {});
  Calls calls(file.header().geometry, sizes.single_tokens);
  std::mt19937_64 random(12);
  calls.draw_uniform(random);
  PlainReads plain(file, value_or_die(memory::make_read_queue(memory::IoBackend::kAuto, kColumns)));
  std::vector<double> us;
  std::vector<double> plain_us;
  for (int64_t t = 0; t < calls.tokens(); ++t) {
    us.push_back(1e6 * seconds_of([&] { calls.gather(*store, t, 1); }));
    plain_us.push_back(1e6 * seconds_of([&] { plain.batch(kColumns); }));
  }
  std::printf(
      "token %s, %d rows at once, cold: p50 %.0f us, p90 %.0f us, p99 %.0f us; %d plain reads at "
      "once: p50 %.0f us, p90 %.0f us, p99 %.0f us\n",
      layout.c_str(), kColumns, quantile(us, 0.5), quantile(us, 0.9), quantile(us, 0.99), kColumns,
      quantile(plain_us, 0.5), quantile(plain_us, 0.9), quantile(plain_us, 0.99));
}

void bench_zipf(const TableFile& file, int64_t cache_bytes, const Sizes& sizes) {
  const std::unique_ptr<NvmeRowStore> store = open_store(file, {.cache_bytes = cache_bytes});
  std::vector<double> cumulative;
  double sum = 0.;
  for (int64_t rank = 1; rank <= sizes.ngrams; ++rank) {
    sum += 1. / static_cast<double>(rank);
    cumulative.push_back(sum);
  }
  Calls calls(file.header().geometry, sizes.zipf_chunk);
  std::mt19937_64 random(13);
  double seconds = 0.;
  NvmeStats before;
  const int64_t warm = sizes.zipf_chunks / 3;
  for (int64_t chunk = 0; chunk < sizes.zipf_chunks; ++chunk) {
    if (chunk == warm) before = store->nvme_stats();
    calls.draw_zipf(cumulative, random);
    const double taken = seconds_of([&] { calls.gather(*store, 0, calls.tokens()); });
    if (chunk >= warm) seconds += taken;
  }
  const NvmeStats after = store->nvme_stats();
  const double rows = static_cast<double>(after.rows - before.rows);
  const double distinct = static_cast<double>(after.distinct_rows - before.distinct_rows);
  const double hits = static_cast<double>(after.cache_hits - before.cache_hits);
  const double row_blocks = static_cast<double>(after.row_blocks - before.row_blocks);
  const double blocks = static_cast<double>(after.blocks - before.blocks);
  std::printf(
      "zipf, chunks of %lld tokens, cache %s (%.0f MiB taken in all): %.1f %% of the rows distinct "
      "in a chunk, %.1f %% of those in the cache, %.1f %% of the block reads of the rest saved; "
      "%.2f reads per token of %d rows, %.0f tokens/s\n",
      static_cast<long long>(sizes.zipf_chunk), memory::format_bytes(cache_bytes).c_str(),
      static_cast<double>(store->memory_bytes()) / (1 << 20), 100. * distinct / rows,
      100. * hits / distinct, 100. * (1. - blocks / row_blocks),
      static_cast<double>(after.reads - before.reads) / (rows / kColumns), kColumns,
      rows / kColumns / seconds);
}

}  // namespace

int run_nvme(const Options& options) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const Sizes sizes = options.smoke ? kSmoke : Sizes();
  const auto wanted = [&](const char* part) {
    return std::string(part).find(options.filter) != std::string::npos;
  };
  const tests::TempDirectory directory;
  const int rounds = options.smoke ? 1 : options.rounds;
  for (const RowLayout layout : {RowLayout::kInterleaved, RowLayout::kSplit}) {
    const std::string name = memory::row_layout_name(layout);
    const std::string path = directory.file(name);
    std::shared_ptr<const TableFile> file;
    const double seconds = seconds_of([&] { file = write_table(path, sizes.table_bytes, layout); });
    std::printf(
        "%s table of %s written in %.1f s; %s\n", name.c_str(),
        memory::format_bytes(file->header().data_bytes).c_str(), seconds,
        open_store(*file, {})->placement().c_str());
    if (wanted("random")) {
      bench_random(*file, name, {}, sizes, rounds);
    }
    if (wanted("sweep")) {
      if (layout == RowLayout::kInterleaved && !options.smoke) {
        for (const int depth : {16, 32, 64, 256, 512}) {
          bench_random(*file, name, {.depth = depth}, sizes, 4);
        }
        for (const int64_t gap : {4096, 12288}) {
          bench_random(*file, name + ", gap " + std::to_string(gap), {.read_gap = gap}, sizes, 4);
        }
      }
    }
    if (wanted("token")) bench_token(*file, name, sizes);
    if (wanted("zipf") && layout == RowLayout::kInterleaved) {
      for (const int64_t mib : {0, 32, 256}) {
        bench_zipf(*file, options.smoke ? mib << 12 : mib << 20, sizes);
      }
    }
    std::filesystem::remove(path);
  }
  return 0;
}

}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run_nvme(engram::bench::parse_options(argc, argv));
}
