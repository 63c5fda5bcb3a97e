#include "tools/bench/inproc_report.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "tools/bench/statistics.h"

namespace engram::tools::bench {
namespace {

constexpr int kPercentages[] = {10, 25, 50, 75, 90, 99};  // those of vLLM

void append(std::string* text, const char* format, auto... values) {
  char line[512];
  std::snprintf(line, sizeof line, format, values...);
  text->append(line);
}

void append_steps(std::string* text, const char* name, const StepKind& kind) {
  if (kind.steps == 0) return;
  append(
      text, "  %-8s %8lld steps, mean %9.3f ms %10lld tokens %10.2f s\n", name,
      static_cast<long long>(kind.steps), 1e3 * kind.seconds / static_cast<double>(kind.steps),
      static_cast<long long>(kind.tokens), kind.seconds);
}

void append_rows(std::string* text, const EngineWork& work, const std::string& codec) {
  if (work.rows == 0) return;
  std::vector<double> waits;
  double waited = 0;
  for (const double s : work.wait_seconds) {
    waits.push_back(1e6 * s);
    waited += s;
  }
  append(
      text, "n-gram rows: %lld (%lld distinct per fetch), %.3f GB in %s; hashing %.3f s",
      static_cast<long long>(work.rows), static_cast<long long>(work.unique_rows),
      1e-9 * static_cast<double>(work.row_bytes), codec.c_str(), work.hash_seconds);
  if (work.gather_seconds) append(text, ", gathering %.3f s", *work.gather_seconds);
  *text += " beside the steps\n";
  if (waits.empty()) return;
  append(
      text, "  steps waited for them: p50 %.1f us, p99 %.1f us, %.3f s in all (%.2f %%)\n",
      quantile(waits, 0.5), quantile(waits, 0.99), waited,
      work.seconds() > 0 ? 100 * waited / work.seconds() : 0.);
}

void append_ops(std::string* text, const EngineWork& work, const MachinePeaks& peaks) {
  if (work.ops.empty()) return;
  append(text, "ops         calls         GB      GFLOP   at least (s)\n");
  std::vector<OpWork> ops = work.ops;
  std::ranges::stable_sort(ops, [](const OpWork& a, const OpWork& b) { return a.bytes > b.bytes; });
  for (const OpWork& op : ops) {
    append(
        text, "  %-12s %6lld %10.3f %10.3f", op.name.c_str(), static_cast<long long>(op.calls),
        1e-9 * static_cast<double>(op.bytes), 1e-9 * static_cast<double>(op.flops));
    const double least = least_seconds(op, peaks);
    if (least > 0) {
      append(text, " %14.4f\n", least);
    } else {
      append(text, " %14s\n", "-");
    }
  }
}

void append_roofline(std::string* text, const EngineWork& work, const MachinePeaks& peaks) {
  const Roofline roofline = hold_against(work, peaks);
  if (!(roofline.share > 0)) {
    append(text, "roofline: -, the peaks of this device are not measured\n");
    return;
  }
  append(
      text,
      "roofline: this machine (reads %.1f GB/s, float32 multiply-adds %.0f GFLOP/s) needs at least "
      "%.3f s,\n  the steps took %.3f s: %.1f %% (of the memory's rate %.1f %%, of the "
      "arithmetic's %.1f %%)\n",
      peaks.read_gbps, peaks.gflops, roofline.least_seconds, work.seconds(), 100 * roofline.share,
      100 * roofline.memory_share, 100 * roofline.compute_share);
  if (roofline.memory_share > 1) append(text, "  above 100 %%: the weights lie in the caches\n");
}

std::string work_text(const InprocFacts& facts, const EngineWork& work) {
  std::string text;
  std::vector<double> steps;
  for (const double s : work.step_seconds) steps.push_back(1e3 * s);
  append(
      &text, "steps: %zu, p50 %.3f ms, p99 %.3f ms\n", steps.size(), quantile(steps, 0.5),
      quantile(steps, 0.99));
  append_steps(&text, "prefill", work.prefill);
  append_steps(&text, "decode", work.decode);
  if (work.preemptions > 0) {
    append(&text, "  %lld preemptions\n", static_cast<long long>(work.preemptions));
  }
  append_rows(&text, work, facts.table_codec);
  append_ops(&text, work, facts.peaks);
  append_roofline(&text, work, facts.peaks);
  return text;
}

double per_second(int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

}  // namespace

ThroughputResult count_throughput(
    const std::vector<RequestRecord>& records, double seconds, EngineWork work) {
  ThroughputResult result;
  result.seconds = seconds;
  result.asked = std::ssize(records);
  result.work = std::move(work);
  for (const RequestRecord& r : records) {
    const bool completed = r.outcome == Outcome::kCompleted;
    result.completed += completed ? 1 : 0;
    result.interrupted |= r.outcome == Outcome::kCancelled;
    if (!completed && r.messages.empty()) continue;
    result.prompt_tokens += r.prompt_tokens;
    result.output_tokens += r.output_tokens;
  }
  return result;
}

std::string throughput_text(const InprocFacts& facts, const ThroughputResult& r) {
  std::string text;
  append(
      &text, "Throughput: %.2f requests/s, %.2f total tokens/s, %.2f output tokens/s\n",
      per_second(r.completed, r.seconds), per_second(r.prompt_tokens + r.output_tokens, r.seconds),
      per_second(r.output_tokens, r.seconds));
  append(&text, "Total num prompt tokens:  %lld\n", static_cast<long long>(r.prompt_tokens));
  append(&text, "Total num output tokens:  %lld\n", static_cast<long long>(r.output_tokens));
  if (r.interrupted) {
    append(
        &text, "interrupted: %lld of %lld requests were completed\n",
        static_cast<long long>(r.completed), static_cast<long long>(r.asked));
  }
  return text + work_text(facts, r.work);
}

std::string latency_text(const InprocFacts& facts, const LatencyResult& r) {
  std::string text;
  if (r.latencies.empty()) return "interrupted before an iteration was done\n";
  append(&text, "Avg latency: %.6f seconds\n", mean(r.latencies));
  append(&text, "Std latency: %.6f seconds\n", standard_deviation(r.latencies));
  for (const int percent : kPercentages) {
    append(
        &text, "%d%% percentile latency: %.6f seconds\n", percent,
        quantile(r.latencies, percent / 100.));
  }
  append(
      &text, "batch of %lld, %lld tokens in, %lld out; %zu iterations%s\n",
      static_cast<long long>(r.batch_size), static_cast<long long>(r.input_tokens),
      static_cast<long long>(r.output_tokens), r.latencies.size(),
      r.interrupted ? ", interrupted" : "");
  append(
      &text, "TTFT: median %.3f ms, of the last of the batch %.3f ms\n", quantile(r.ttft_ms, 0.5),
      quantile(r.worst_ttft_ms, 0.5));
  if (!r.tpot_ms.empty()) append(&text, "TPOT: median %.3f ms\n", quantile(r.tpot_ms, 0.5));
  return text + work_text(facts, r.work);
}

}  // namespace engram::tools::bench
