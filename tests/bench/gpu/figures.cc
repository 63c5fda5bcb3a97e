#include "tests/bench/gpu/figures.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

namespace engram::bench::gpu {
namespace {

[[noreturn]] void usage(const char* program) {
  std::fprintf(
      stderr,
      "usage: %s [--smoke] [--rounds N] [--filter GROUP] [--json FILE] [--seconds N] "
      "[--table-gib N]\n",
      program);
  std::exit(2);
}

// What the reader sees of a figure besides its time.
std::string rates(const Figure& f) {
  const double us = f.us.value_or(1.);
  char text[256];
  std::string all;
  const auto add = [&](const char* format, double value) {
    std::snprintf(text, sizeof(text), format, value);
    all += text;
  };
  if (f.bytes > 0) add("  %8.2f GB/s", static_cast<double>(f.bytes) / us * 1e-3);
  if (f.flops > 0) add("  %7.2f TFLOP/s", static_cast<double>(f.flops) / us * 1e-6);
  if (f.rows > 0) add("  %7.2f M rows/s", static_cast<double>(f.rows) / us);
  if (f.tokens > 0) add("  %9.1f tokens/s", static_cast<double>(f.tokens) / us * 1e6);
  if (f.ratio) add("  %5.3f of ", *f.ratio);
  if (f.ratio) all += f.limit;
  if (f.percent) add("  %+.2f %%", *f.percent);
  return all;
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  const auto number = [&](int at) {
    double value = 0;
    const std::string_view text(argv[at]);
    const std::from_chars_result read =
        std::from_chars(text.data(), text.data() + text.size(), value);
    if (read.ec != std::errc() || read.ptr != text.data() + text.size() || value < 0) {
      usage(argv[0]);
    }
    return value;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view name(argv[i]);
    if (name == "--smoke") {
      options.smoke = true;
      options.rounds = 1;
      continue;
    }
    if (++i == argc) usage(argv[0]);
    if (name == "--rounds") {
      options.rounds = std::max(1, static_cast<int>(number(i)));
    } else if (name == "--filter") {
      options.filter = argv[i];
    } else if (name == "--json") {
      options.json = argv[i];
    } else if (name == "--seconds") {
      options.seconds = number(i);
    } else if (name == "--table-gib") {
      options.table_gib = number(i);
    } else {
      usage(argv[0]);
    }
  }
  return options;
}

Figures::Figures(const Options& options) : options_(options) {
  if (options.smoke) std::puts("smoke size: the figures mean nothing");
  if (options.json.empty()) return;
  json_ = std::fopen(options.json.c_str(), "w");
  if (json_ == nullptr) {
    std::fprintf(stderr, "%s cannot be written\n", options.json.c_str());
    std::exit(2);
  }
}

Figures::~Figures() {
  if (json_ != nullptr) std::fclose(json_);
}

double Figures::seconds_left() const {
  if (options_.seconds == 0) return 1e9;
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin_;
  return options_.seconds - taken.count();
}

void Figures::add_missing(
    const std::string& group, const std::string& name, const std::string& why) {
  Figure f;
  f.group = group;
  f.name = name;
  f.note = why;
  add(f);
}

void Figures::fail(const std::string& what) {
  failed_ = true;
  std::fprintf(stderr, "WRONG: %s\n", what.c_str());
}

void Figures::add(const Figure& f) {
  const std::string label = f.group + ": " + f.name;
  if (f.us) {
    std::printf(
        "%-66s %11.2f us  spread %3.0f %%%s", label.c_str(), *f.us, f.spread_percent,
        rates(f).c_str());
  } else {
    std::printf("%-66s %s", label.c_str(), f.percent ? rates(f).c_str() : "");
  }
  std::printf("%s%s\n", f.note.empty() ? "" : "  ", f.note.c_str());
  std::fflush(stdout);
  if (json_ == nullptr) return;
  nlohmann::ordered_json line = {{"group", f.group}, {"name", f.name}};
  line["us"] = f.us ? nlohmann::ordered_json(*f.us) : nlohmann::ordered_json();
  if (f.us) {
    line["spread_percent"] = f.spread_percent;
    line["rounds"] = f.rounds;
    if (f.bytes > 0) line["bytes"] = f.bytes;
    if (f.bytes > 0) line["gbps"] = static_cast<double>(f.bytes) / *f.us * 1e-3;
    if (f.flops > 0) line["flops"] = f.flops;
    if (f.flops > 0) line["tflops"] = static_cast<double>(f.flops) / *f.us * 1e-6;
    if (f.rows > 0) line["mrows"] = static_cast<double>(f.rows) / *f.us;
    if (f.tokens > 0) line["tokens_per_second"] = static_cast<double>(f.tokens) / *f.us * 1e6;
  }
  if (!f.limit.empty()) line["limit"] = f.limit;
  if (f.limit_rate > 0) line["limit_rate"] = f.limit_rate;
  if (f.ratio) line["ratio"] = *f.ratio;
  if (f.datasheet_share) line["datasheet_share"] = *f.datasheet_share;
  if (f.percent) line["percent"] = *f.percent;
  if (!f.prediction.empty()) line["prediction"] = f.prediction;
  if (f.bar) {
    line["bar"] = {
        {"of", f.bar->of}, {f.bar->at_least ? "least" : "most", f.bar->value}, {"aim", f.bar->aim}};
  }
  if (!f.note.empty()) line["note"] = f.note;
  if (options_.smoke) line["smoke"] = true;
  std::fprintf(json_, "%s\n", line.dump().c_str());
  std::fflush(json_);
}

int run_groups(std::span<const Group> groups, int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  Figures figures(options);
  for (const Group& group : groups) {
    if (std::string(group.name).find(options.filter) == std::string::npos) continue;
    if (figures.seconds_left() > 0) {
      group.run(figures, options);
    } else {
      figures.add_missing(group.name, "all of it", "no time was left");
    }
  }
  return figures.status();
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace engram::bench::gpu
