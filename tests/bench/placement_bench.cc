// What it costs a model that its n-gram tables live somewhere else: the same requests with the
// tables in host memory, in the pages of a daemon, on NVMe with and without a row cache, and split.
// The table files are written to the temporary directory first. Prompts are of random ids, so that
// n-grams do not repeat: text is kinder to the row cache.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "engine/run/engine.h"
#include "memory/table/table_writer.h"
#include "tests/bench/bench.h"
#include "tests/bench/engine_rig.h"
#include "tests/support/or_die.h"
#include "tests/support/table_daemon.h"

namespace engram::bench {
namespace {

using engine::Engine;
using engine::EngineOptions;
using engine::EngineStats;
using tests::ok_or_die;

struct Sizes {
  std::string model = "configs/bench/engram-0.5b";
  int64_t decode_tokens = 12;
  int64_t prompt_tokens = 256;
  int batch = 8;
  std::string split = "host:512MiB,nvme";
  int64_t cache_bytes = int64_t{64} << 20;
};
const Sizes kSmoke{
    .model = "configs/demo",
    .decode_tokens = 3,
    .prompt_tokens = 16,
    .batch = 2,
    .split = "host:4MiB,nvme",
    .cache_bytes = int64_t{1} << 20};

// The model's made-up tables as files.
void write_tables(const std::string& model, const std::string& directory) {
  auto config = engine::load_config(model);
  ok_or_die(config.status());
  const auto made = engine::dummy_table_request(config.value());
  ok_or_die(made.status());
  const memory::TableRequest& request = made.value();
  for (const auto& source : request.sources) {
    const std::string path = memory::table_file_path(directory, source->geometry().layer);
    auto plan = memory::plan_table(
        source->geometry(), memory::RowLayout::kInterleaved, memory::kDefaultExtentBytes,
        request.token_map_sha256);
    ok_or_die(plan.status());
    const memory::TableHeader& h = plan.value();
    auto writer = memory::TableWriter::create(path, h, {});
    ok_or_die(writer.status());
    memory::Buffer image = allocate("table image", h.data_bytes);
    for (int64_t row = 0; row < h.geometry.rows; ++row) {
      uint8_t* to = image.as<uint8_t>() + h.values_at + row * h.value_stride;
      ok_or_die(source->read_row(row, to, nullptr));
    }
    for (int64_t e = 0; e < h.extents(); ++e) {
      ok_or_die(writer.value()->write_extent(e, image.as<uint8_t>() + h.extent_at(e)));
    }
    ok_or_die(writer.value()->finish().status());
  }
}

class PlacementBench {
 public:
  PlacementBench(Suite& suite, const Sizes& sizes, std::string directory, std::string socket)
      : suite_(suite),
        sizes_(sizes),
        directory_(std::move(directory)),
        socket_(std::move(socket)) {}

  void add(const std::string& name, const std::string& placement, int64_t cache_bytes) {
    EngineOptions o = dummy_engine(sizes_.model, suite_.workers().threads());
    if (name == "shared") {
      o.tables.socket = socket_;
    } else {
      o.tables.directory = directory_;
    }
    o.tables.placement = placement;
    o.tables.cache_bytes = cache_bytes;
    engines_[name] = start_engine(o);
    names_.push_back(name);
    Engine* e = engines_[name].get();
    const int64_t tokens = sizes_.decode_tokens;
    for (const int batch : {1, sizes_.batch}) {
      suite_.add(
          {.name = name + (batch == 1 ? ", decode, batch 1" : ", decode, batch n"),
           .repeats = tokens,
           .run = [=, this] { ask(e, name, batch, 1, tokens); }});
    }
    suite_.add({.name = name + ", prefill", .run = [=, this] {
                  ask(e, name, 1, sizes_.prompt_tokens, 1);
                }});
  }

  // Ratios to host memory and what a step waited, after Suite::run().
  void report() {
    for (const std::string& name : names_) {
      for (const char* what : {", decode, batch 1", ", decode, batch n", ", prefill"}) {
        const double host = suite_.median_us(names_.front() + what);
        const double here = suite_.median_us(name + what);
        if (host == 0 || here == 0) continue;
        std::printf(
            "%s%s: %.3f of the tokens/s of %s\n", name.c_str(), what, host / here,
            names_.front().c_str());
      }
      const EngineStats stats = engines_[name]->stats();
      double seconds = 0;
      for (const double s : stats.recent_step_seconds) seconds += s;
      double waited = 0;
      for (const double s : stats.recent_exposed_wait_seconds) waited += s;
      const double steps = static_cast<double>(stats.recent_step_seconds.size());
      memory::RowStoreStats rows;
      for (const memory::TableReport& report : engines_[name]->tables()) {
        rows.rows_read += report.stats.rows_read;
        rows.cache_hits += report.stats.cache_hits;
        rows.cache_misses += report.stats.cache_misses;
        rows.file_reads += report.stats.file_reads;
      }
      std::printf(
          "%s: exposed wait %.1f us a step, %.5f of the step time; %lld rows, %lld file reads, "
          "%lld of %lld distinct rows cached\n",
          name.c_str(), waited / steps * 1e6, waited / seconds,
          static_cast<long long>(rows.rows_read), static_cast<long long>(rows.file_reads),
          static_cast<long long>(rows.cache_hits),
          static_cast<long long>(rows.cache_hits + rows.cache_misses));
    }
  }

 private:
  // Every run asks for other rows, the same in every placement.
  void ask(Engine* engine, const std::string& name, int batch, int64_t prompt, int64_t tokens) {
    const uint64_t seed = ++runs_[name];
    const int64_t vocab_size = engine->info().config.vocab_size;
    serve(*engine, random_prompts(seed, vocab_size, batch, prompt), tokens);
  }

  Suite& suite_;
  const Sizes sizes_;
  const std::string directory_;
  const std::string socket_;
  std::map<std::string, std::unique_ptr<Engine>> engines_;
  std::vector<std::string> names_;
  std::map<std::string, uint64_t> runs_;
};

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  const Sizes sizes = options.smoke ? kSmoke : Sizes{};
  const std::string directory =
      (std::filesystem::temp_directory_path() / ("placement-" + std::to_string(::getpid())))
          .string();
  std::filesystem::create_directory(directory);
  int status = 0;
  {
    memory::TableDaemonOptions serve_options;
    serve_options.tables = {directory};
    serve_options.socket = directory + "/socket";
    write_tables(sizes.model, directory);
    tests::TableDaemon daemon(serve_options);  // forks: before there are threads
    if (!daemon.answers()) return 1;
    Suite suite(options);
    PlacementBench bench(suite, sizes, directory, daemon.socket());
    bench.add("host", "", 0);
    bench.add("shared", "", 0);
    bench.add("nvme", "nvme", 0);
    bench.add("nvme, cached", "nvme", sizes.cache_bytes);
    bench.add("split", sizes.split, sizes.cache_bytes);
    status = suite.run();
    bench.report();
  }
  std::filesystem::remove_all(directory);
  return status;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}
