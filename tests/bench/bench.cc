#include "tests/bench/bench.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "memory/base/simd.h"
#include "memory/device/host_memory.h"
#include "tests/bench/peaks.h"
#include "tests/support/or_die.h"

namespace engram::bench {
namespace {

constexpr const char* kReadPlain = "peak: read";
constexpr const char* kReadAhead = "peak: read, prefetch 4 KiB ahead";
constexpr const char* kFmaName = "peak: f32 multiply-add";
constexpr const char* kCopyName = "peak: copy";

[[noreturn]] void usage(const char* program) {
  std::fprintf(stderr, "usage: %s [--smoke] [--threads N] [--rounds N] [--filter TEXT]\n", program);
  std::exit(2);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0.;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double time_us(const std::function<void()>& run) {
  const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  run();
  const std::chrono::duration<double, std::micro> taken = std::chrono::steady_clock::now() - begin;
  return taken.count();
}

// Splits [0, bytes) over the workers in pieces of 1 MiB, or less if there is little.
template <typename F>
void for_each_piece(memory::CpuWorkers& workers, int64_t bytes, const F& piece) {
  const int64_t size = std::min<int64_t>(bytes / workers.threads() / 1024 * 1024, 1 << 20);
  workers.run((bytes + size - 1) / size, [&](int64_t i) {
    piece(i * size, std::min(size, bytes - i * size));
  });
}

int64_t work_of(const Case& c) {
  return c.flops != 0 ? c.flops : c.bytes;
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  const auto number = [&](int i) {
    int value = 0;
    if (i >= argc) usage(argv[0]);
    const std::string_view text = argv[i];
    const std::from_chars_result r = std::from_chars(text.data(), text.data() + text.size(), value);
    if (r.ec != std::errc() || r.ptr != text.data() + text.size() || value < 1) usage(argv[0]);
    return value;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--smoke") {
      options.smoke = true;
      options.rounds = 2;
    } else if (flag == "--threads") {
      options.threads = number(++i);
    } else if (flag == "--rounds") {
      options.rounds = number(++i);
    } else if (flag == "--filter" && i + 1 < argc) {
      options.filter = argv[++i];
    } else {
      usage(argv[0]);
    }
  }
  return options;
}

Suite::Suite(const Options& options)
    : options_(options), workers_(options.threads > 0 ? options.threads : memory::usable_cores()) {
  add_peaks();
}

Suite::~Suite() = default;

void Suite::add_peaks() {
  // More than the largest caches hold.
  const int64_t bytes = options_.smoke ? int64_t{1} << 22 : int64_t{1} << 30;
  buffers_.push_back(allocate("peaks", bytes));
  char* data = buffers_.back().as<char>();
  fill_bytes(data, std::min<int64_t>(bytes, 1 << 20), 1);
  for (const int64_t ahead : {0, 4096}) {
    peaks_.push_back(
        {{.name = ahead == 0 ? kReadPlain : kReadAhead, .bytes = bytes, .run = [=, this] {
            std::atomic<uint64_t> sum{0};
            for_each_piece(workers_, bytes, [&](int64_t first, int64_t size) {
              sum ^= read_all(data + first, size, ahead);
            });
          }}});
  }
  const int64_t half = bytes / 2;
  peaks_.push_back({{.name = kCopyName, .bytes = half, .run = [=, this] {
                       for_each_piece(workers_, half, [&](int64_t first, int64_t size) {
                         std::memcpy(data + half + first, data + first, static_cast<size_t>(size));
                       });
                     }}});
  const int64_t counts = options_.smoke ? 1000 : 200000;
  const int64_t parts = 16 * workers_.threads();
  peaks_.push_back(
      {{.name = kFmaName, .flops = counts * parts * multiply_add_flops(), .run = [=, this] {
          std::atomic<float> sum{0.f};
          workers_.run(parts, [&](int64_t) { sum = multiply_add(counts); });
        }}});
}

void Suite::add(Case c) {
  if (c.name.find(options_.filter) != std::string::npos) cases_.push_back({std::move(c)});
}

const Suite::Timed* Suite::find(const std::string& name) const {
  for (const std::vector<Timed>* list : {&peaks_, &cases_}) {
    for (const Timed& timed : *list) {
      if (timed.work.name == name) return &timed;
    }
  }
  return nullptr;
}

double Suite::median_us(const std::string& name) const {
  const Timed* timed = find(name);
  if (timed == nullptr) return 0.;
  return median(timed->us) / static_cast<double>(timed->work.repeats);
}

double Suite::peak_rate(Peak peak) const {
  const auto rate = [this](const char* name) {
    const Timed* timed = find(name);
    return static_cast<double>(work_of(timed->work)) / median(timed->us) * 1e-3;
  };
  switch (peak) {
    case Peak::kRead:
      return std::max(rate(kReadPlain), rate(kReadAhead));
    case Peak::kFma:
      return rate(kFmaName);
    case Peak::kCopy:
      return rate(kCopyName);
    case Peak::kNone:
    case Peak::kCase:
      break;
  }
  return 0.;
}

void Suite::print(const Timed& timed) const {
  const Case& c = timed.work;
  const double us = median(timed.us);
  const auto [low, high] = std::minmax_element(timed.us.begin(), timed.us.end());
  const double gbs = static_cast<double>(c.bytes) / us * 1e-3;
  const double gflops = static_cast<double>(c.flops) / us * 1e-3;
  std::printf(
      "%-44s %11.2f us  spread %3.0f %%", c.name.c_str(), us / static_cast<double>(c.repeats),
      100. * (*high - *low) / us);
  if (c.bytes > 0) std::printf("  %7.2f GB/s", gbs);
  if (c.flops > 0) std::printf("  %8.2f GFLOP/s", gflops);
  if (c.peak == Peak::kRead) std::printf("  %5.3f of read", gbs / peak_rate(Peak::kRead));
  if (c.peak == Peak::kCopy) std::printf("  %5.3f of copy", gbs / peak_rate(Peak::kCopy));
  if (c.peak == Peak::kFma) std::printf("  %5.3f of multiply-add", gflops / peak_rate(Peak::kFma));
  if (c.peak == Peak::kCase && find(c.against) != nullptr) {
    const Timed& other = *find(c.against);
    const double rate = static_cast<double>(work_of(other.work)) / median(other.us);
    const double share = static_cast<double>(work_of(c)) / us / rate;
    std::printf("  %5.3f of \"%s\"", share, c.against.c_str());
  }
  if (c.hash) std::printf("  hash %016llx", static_cast<unsigned long long>(c.hash()));
  std::printf("\n");
  std::fflush(stdout);
}

int Suite::run() {
  std::printf(
      "%d threads, %s, median of %d rounds%s\n", workers_.threads(), memory::simd_target(),
      options_.rounds, options_.smoke ? ", smoke size: the rates mean nothing" : "");
  // The first round warms up and is not counted.
  for (int round = -1; round < options_.rounds; ++round) {
    for (std::vector<Timed>* list : {&peaks_, &cases_}) {
      for (Timed& timed : *list) {
        const double us = time_us(timed.work.run);
        if (round >= 0) timed.us.push_back(us);
      }
    }
  }
  for (const Timed& timed : peaks_) print(timed);
  for (const Timed& timed : cases_) print(timed);
  return 0;
}

uint64_t hash_bytes(const void* data, int64_t bytes) {
  const uint8_t* at = static_cast<const uint8_t*>(data);
  uint64_t hash = 0xcbf29ce484222325u;
  for (int64_t i = 0; i < bytes; ++i) hash = (hash ^ at[i]) * 0x100000001b3u;
  return hash;
}

void fill_bytes(void* data, int64_t bytes, uint64_t seed) {
  uint8_t* at = static_cast<uint8_t*>(data);
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (int64_t i = 0; i < bytes; i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(at + i, &state, static_cast<size_t>(std::min<int64_t>(8, bytes - i)));
  }
}

memory::Buffer allocate(const std::string& what, int64_t bytes) {
  return tests::value_or_die(memory::allocate_host(what, bytes));
}

}  // namespace engram::bench
