#include "tests/bench/gpu/suite.h"

#include <algorithm>
#include <utility>

#include "tests/support/or_die.h"

namespace engram::bench::gpu {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr double kH200GBs = 4800;
constexpr double kH200GFlops = 989'000;

}  // namespace

const char* limit_name(Limit limit) {
  switch (limit) {
    case Limit::kNone:
      return "";
    case Limit::kRead:
      return "HBM read";
    case Limit::kCopy:
      return "HBM copy";
    case Limit::kUpload:
      return "copy engine, host to device";
    case Limit::kDownload:
      return "copy engine, device to host";
    case Limit::kHostRead:
      return "host read by all SMs";
    case Limit::kMultiply:
      return "bf16 product 8192^3";
    case Limit::kRoof:
      return "roof";
    case Limit::kAddedRoofs:
      return "added roofs";
  }
  return "";
}

Suite::Suite(
    Rig& rig,
    Figures& figures,
    const Options& options,
    const std::string& group,
    const std::vector<Limit>& limits)
    : rig_(rig), figures_(figures), options_(options), group_(group) {
  // Four times a cache, and enough for a bandwidth.
  other_bytes_ = options.smoke ? kMiB / 4 : std::max(4 * rig.facts().l2_bytes, 1024 * kMiB);
  other_ = rig.allocate(other_bytes_);
  sink_ = static_cast<uint32_t*>(rig.allocate(64));
  enqueue_fill_f32(rig.stream(), other_, other_bytes_ / 4, 1.f, 99);
  for (const Limit limit : limits) add_limit(limit);
}

void Suite::add_limit(Limit limit) {
  const int all = 8 * rig_.facts().multiprocessors;
  Stream& stream = rig_.stream();
  const int64_t half = other_bytes_ / 2;
  const int64_t pinned_bytes = options_.smoke ? kMiB / 8 : 256 * kMiB;
  Case c{.name = limit_name(limit), .flush = false, .enqueue = nullptr};
  if (limit == Limit::kRead) {
    c.bytes = other_bytes_;
    c.prediction = "4.3 TB/s on an H200 (a copy of PyTorch's there)";
    c.enqueue = [=, this, &stream](int) { enqueue_read(stream, other_, other_bytes_, all, sink_); };
  } else if (limit == Limit::kCopy) {
    c.bytes = other_bytes_;
    c.prediction = "4.3 TB/s on an H200 (a copy of PyTorch's there)";
    c.enqueue = [=, this, &stream](int) {
      rig_.device().copy(stream, static_cast<char*>(other_) + half, other_, half);
    };
  } else if (limit == Limit::kMultiply) {
    const int64_t n = options_.smoke ? 32 : 8192;
    const View x = rig_.random(DType::kBf16, n, n, 1.f);
    const View y = rig_.random(DType::kBf16, n, n, 1.f);
    const engine::Matrix w = rig_.weight(n, n);
    c.flops = 2 * n * n * n;
    c.prediction = "769 to 798 TFLOP/s on an H200 (PyTorch's there)";
    c.enqueue = [=, this, &stream](int) { rig_.ops().linear(stream, x, w, View(), y); };
  } else {
    ENGRAM_CHECK(limit == Limit::kUpload || limit == Limit::kDownload || limit == Limit::kHostRead);
    void* pinned = rig_.pinned(pinned_bytes);
    c.bytes = pinned_bytes;
    c.prediction = limit == Limit::kHostRead ? "35 GB/s if reads on their way are limited, else 52"
                                             : "53 to 55 GB/s, generation 5 x16";
    c.enqueue = [=, this, &stream](int) {
      if (limit == Limit::kHostRead) {
        enqueue_read(stream, pinned, pinned_bytes, all, sink_);
      } else if (limit == Limit::kUpload) {
        rig_.device().copy(stream, other_, pinned, std::min(pinned_bytes, other_bytes_));
      } else {
        rig_.device().copy(stream, pinned, other_, std::min(pinned_bytes, other_bytes_));
      }
    };
  }
  limits_.emplace(limit, Timed{std::move(c)});
}

void Suite::add(Case c) {
  cases_.push_back({std::move(c)});
}

void Suite::flush() {
  enqueue_read(rig_.stream(), other_, other_bytes_, 8 * rig_.facts().multiprocessors, sink_);
}

// While the caches are filled the host enqueues the rest, so that no launch is waited for.
void Suite::time(Timed& timed, int round) {
  if (timed.work.flush) flush();
  timer_.start(rig_.stream());
  timed.work.enqueue(round);
  timer_.stop(rig_.stream());
  const double us = timer_.us();
  tests::ok_or_die(rig_.device().failure());
  if (round >= 0) timed.us.push_back(us);
}

void Suite::run() {
  // The first round warms up and is not counted.
  for (int round = -1; round < options_.rounds; ++round) {
    if (round > 0 && figures_.seconds_left() < 0) break;
    for (auto& [limit, timed] : limits_) time(timed, round);
    for (Timed& timed : cases_) time(timed, round);
  }
  if (tell_limits_) {
    for (const auto& [limit, timed] : limits_) tell(timed);
  }
  for (const Timed& timed : cases_) tell(timed);
}

double Suite::rate(Limit limit) const {
  const auto found = limits_.find(limit);
  if (found == limits_.end() || found->second.us.empty()) return 0;
  const Case& c = found->second.work;
  return static_cast<double>(c.flops > 0 ? c.flops : c.bytes) / median(found->second.us) * 1e-3;
}

double Suite::us(const std::string& name) const {
  for (const Timed& timed : cases_) {
    if (timed.work.name == name) return median(timed.us) / static_cast<double>(timed.work.repeats);
  }
  return 0;
}

double Suite::allowed_us(const Case& c) const {
  const auto time_at = [this](int64_t amount, Limit limit) {
    const double at = rate(limit);
    return at > 0 ? static_cast<double>(amount) / at * 1e-3 : 0.;
  };
  switch (c.limit) {
    case Limit::kNone:
      return 0;
    case Limit::kMultiply:
      return time_at(c.flops, c.limit);
    case Limit::kRoof:
      return std::max(time_at(c.bytes, Limit::kRead), time_at(c.flops, Limit::kMultiply));
    case Limit::kAddedRoofs:
      return time_at(c.bytes, Limit::kRead) + time_at(c.flops, Limit::kMultiply);
    default:
      return time_at(c.bytes, c.limit);
  }
}

void Suite::tell(const Timed& timed) {
  const Case& c = timed.work;
  Figure f;
  f.group = group_;
  f.name = c.name;
  f.prediction = c.prediction;
  f.bar = c.bar;
  f.note = c.note;
  if (!timed.us.empty()) {
    const double us = median(timed.us);
    const auto [low, high] = std::minmax_element(timed.us.begin(), timed.us.end());
    f.us = us / static_cast<double>(c.repeats);
    f.spread_percent = 100. * (*high - *low) / us;
    f.rounds = static_cast<int>(timed.us.size());
    f.bytes = c.bytes / c.repeats;
    f.flops = c.flops / c.repeats;
    f.rows = c.rows / c.repeats;
    f.tokens = c.tokens / c.repeats;
    if (c.limit != Limit::kNone) {
      f.limit = limit_name(c.limit);
      f.limit_rate = rate(c.limit);
      f.ratio = allowed_us(c) / us;
    }
    if (rig_.facts().name == "NVIDIA H200") {
      if (c.limit == Limit::kRead)
        f.datasheet_share = static_cast<double>(c.bytes) / us / kH200GBs * 1e-3;
      if (c.limit == Limit::kMultiply) {
        f.datasheet_share = static_cast<double>(c.flops) / us / kH200GFlops * 1e-3;
      }
    }
  } else {
    f.note = f.note.empty() ? "no time was left" : f.note;
  }
  figures_.add(f);
  const std::string wrong = c.check ? c.check() : "";
  if (!wrong.empty()) figures_.fail(group_ + ", " + c.name + ": " + wrong);
}

}  // namespace engram::bench::gpu
