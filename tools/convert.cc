// engram convert: table files for direct I/O from checkpoints or made up, and token maps.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "memory/base/byte_text.h"
#include "tools/checkpoint_tables.h"
#include "tools/command.h"
#include "tools/convert_table.h"
#include "tools/convert_token_map.h"
#include "tools/interrupt.h"
#include "tools/synthesize.h"

namespace engram::tools {
namespace {

using memory::Result;
using memory::Status;

struct ConvertArguments {
  std::string model;
  std::string out;
  std::string layers;
  std::string codec = "same";
  std::string layout = "split";
  std::string extent_size = "16MiB";
  std::string rows;
  std::string params;
  SynthesizeRequest synthesize;
  ConvertOptions options;
};

// "12", "2.5M", "100B" (10^9), "1e9".
Result<int64_t> parse_count(const std::string& option, const std::string& text) {
  const std::string units = "kMBT";
  size_t used = 0;
  double value = -1;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const size_t unit = used + 1 == text.size() ? units.find(text[used]) : std::string::npos;
  for (size_t i = 0; unit != std::string::npos && i <= unit; ++i) value *= 1000;
  const bool whole = used > 0 && (used == text.size() || unit != std::string::npos);
  if (whole && value >= 1 && value <= 1e15) return static_cast<int64_t>(value);
  return memory::invalid_argument(
      option + " " + text + ": expected a count such as 500000, 2.5M, 100B or 1e9");
}

Result<std::vector<int>> parse_layers(const std::string& text) {
  std::vector<int> layers;
  std::vector<uint32_t> ids;
  if (text.empty()) return layers;
  if (!parse_ids(text, &ids)) {
    return memory::invalid_argument("--layers " + text + ": expected numbers such as 1,14");
  }
  for (const uint32_t id : ids) layers.push_back(static_cast<int>(std::min(id, 1u << 20)));
  return layers;
}

// The options that are text, as what they mean.
Status read_options(ConvertArguments* a) {
  if (a->layout == "interleaved") {
    a->options.layout = memory::RowLayout::kInterleaved;
  } else if (a->layout != "split") {
    return memory::invalid_argument("--layout " + a->layout + ": expected split or interleaved");
  }
  const Result<int64_t> extent = memory::parse_bytes(a->extent_size);
  if (!extent.ok()) return extent.status();
  a->options.extent_bytes = extent.value();
  if (a->codec != "same") {
    a->synthesize.codec = memory::parse_row_codec(a->codec);
    if (!a->synthesize.codec) {
      std::string names = "same";
      for (const memory::RowCodec codec : memory::kRowCodecs) {
        names.append(", ").append(memory::row_codec_name(codec));
      }
      return memory::invalid_argument("--codec " + a->codec + ": expected one of " + names);
    }
  }
  const std::pair<const char*, std::pair<std::string*, int64_t*>> counts[] = {
      {"--rows", {&a->rows, &a->synthesize.rows}},
      {"--params", {&a->params, &a->synthesize.params}}};
  for (const auto& [option, count] : counts) {
    if (count.first->empty()) continue;
    const Result<int64_t> value = parse_count(option, *count.first);
    if (!value.ok()) return value.status();
    *count.second = value.value();
  }
  const Result<std::vector<int>> layers = parse_layers(a->layers);
  if (!layers.ok()) return layers.status();
  a->synthesize.layers = layers.value();
  return {};
}

Result<std::vector<TableJob>> synthesized_jobs(const ConvertArguments& a) {
  Result<std::vector<memory::TableGeometry>> geometries = synthesize_geometries(a.synthesize);
  if (!geometries.ok()) return geometries.status();
  std::vector<TableJob> jobs;
  for (const memory::TableGeometry& g : geometries.value()) {
    TableJob& job = jobs.emplace_back();
    job.geometry = g;
    job.source = "synthetic rows, version 1, of " + a.synthesize.kind;
    job.producer = std::make_unique<memory::SyntheticProducer>(g);
  }
  return jobs;
}

int convert_tables(const ConvertArguments& a) {
  const std::atomic<bool>* stop = watch_interrupts();
  Result<std::vector<TableJob>> jobs =
      a.model.empty()
          ? synthesized_jobs(a)
          : checkpoint_jobs(a.model, a.synthesize.layers, a.synthesize.codec, a.synthesize.group);
  Status status = jobs.status();
  if (jobs.ok()) {
    for (TableJob& job : jobs.value()) {
      status = convert_table(&job, a.options, stop);
      if (!status.ok()) break;
    }
  }
  if (status.ok()) return kDone;
  if (status.code() == memory::Code::kCancelled) {
    std::fprintf(stderr, "engram: stopped; the same command goes on from here\n");
    return kInterrupted;
  }
  std::fprintf(stderr, "engram: %s\n", status.to_string().c_str());
  return kFailed;
}

int convert(ConvertArguments a) {
  const bool tables = !a.options.directory.empty();
  if (tables == !a.out.empty()) return report_usage("give --tables DIR or --out DIR");
  if (!tables) {
    if (a.model.empty()) return report_usage("--out needs --model");
    return convert_token_map(a.model, a.out);
  }
  if (a.model.empty() == a.synthesize.kind.empty()) {
    return report_usage("--tables needs --model or --synthesize");
  }
  const Status status = read_options(&a);
  if (!status.ok()) return report_usage(status.message());
  return convert_tables(a);
}

int default_threads() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 4u, 16u));
}

void add_synthesize_options(CLI::App* command, ConvertArguments* a) {
  SynthesizeRequest& s = a->synthesize;
  command->add_option(
      "--synthesize", s.kind, "Make up the rows of a model's tables: " + synthesize_kinds());
  command->add_option("--rows", a->rows, "About as many rows in each table: 500000, 2.5M, 1e9");
  command->add_option("--params", a->params, "About as many parameters in all tables: 100B");
  command->add_option("--group", s.group, "Values per scale of int8 and int4")
      ->capture_default_str();
  command->add_option("--orders", s.max_ngram, "custom: longest n-gram")->capture_default_str();
  command->add_option("--heads", s.heads, "custom: columns per order")->capture_default_str();
  command->add_option("--width", s.width, "custom: elements of a row")->capture_default_str();
}

}  // namespace

void add_convert_command(CLI::App& app, Invocation* invocation) {
  CLI::App* command = app.add_subcommand(
      "convert",
      "Write table files (--tables) from a checkpoint or made up; or copy a checkpoint (--out)\n"
      "and add the token map it lacks. A conversion that was stopped goes on when it is run "
      "again.");
  auto a = std::make_shared<ConvertArguments>();
  a->options.threads = default_threads();
  command->add_option("--model", a->model, "Directory of the checkpoint");
  command->add_option("--out", a->out, "New directory for the copy with a token map");
  command->add_option(
      "--tables", a->options.directory, "Directory for layer-L.engram-table, made if missing");
  add_synthesize_options(command, a.get());
  command->add_option("--layers", a->layers, "Only these: 1,14");
  command
      ->add_option("--codec", a->codec, "same, bf16, f16, f32, f8_e4m3, f8_e4m3+ue8m0, int8, int4")
      ->capture_default_str();
  command->add_option("--layout", a->layout, "split (memory) or interleaved (NVMe)")
      ->capture_default_str();
  command->add_option("--extent-size", a->extent_size, "Bytes under one checksum")
      ->capture_default_str();
  command->add_option("--io-threads", a->options.threads, "Memory: 4 of them + 2 extents")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->add_flag("--overwrite", a->options.overwrite, "Replace tables that are there");
  command->add_flag("--verify", a->options.verify, "Read everything again and compare");
  command->callback([a, invocation] { invocation->run = [a] { return convert(*a); }; });
}

}  // namespace engram::tools
