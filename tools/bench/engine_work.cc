#include "tools/bench/engine_work.h"

#include <algorithm>
#include <utility>

namespace engram::tools::bench {
namespace {

using engine::EngineStats;

double seconds_of(int64_t before_ns, int64_t after_ns) {
  return 1e-9 * static_cast<double>(after_ns - before_ns);
}

void append(std::vector<double>* to, const std::vector<double>& values) {
  to->insert(to->end(), values.begin(), values.end());
}

void subtract_rows(const EngineStats& before, const EngineStats& after, EngineWork* work) {
  for (size_t i = 0; i < after.layers.size(); ++i) {
    const EngineStats::Layer& a = after.layers[i];
    const EngineStats::Layer b = i < before.layers.size() ? before.layers[i] : EngineStats::Layer{};
    work->rows += a.rows - b.rows;
    work->unique_rows += a.unique_rows - b.unique_rows;
    work->row_bytes += a.bytes - b.bytes;
    if (a.gather_ns) {
      const double seconds = seconds_of(b.gather_ns.value_or(0), *a.gather_ns);
      work->gather_seconds = work->gather_seconds.value_or(0) + seconds;
    }
  }
  work->hash_seconds = seconds_of(before.hash_ns, after.hash_ns);
}

void subtract_ops(const EngineStats& before, const EngineStats& after, EngineWork* work) {
  for (size_t i = 0; i < after.ops.size(); ++i) {
    const EngineStats::Op& a = after.ops[i];
    const EngineStats::Op b = i < before.ops.size() ? before.ops[i] : EngineStats::Op{};
    if (a.calls == b.calls) continue;
    work->ops.push_back({a.name, a.calls - b.calls, a.bytes - b.bytes, a.flops - b.flops});
  }
}

}  // namespace

void add_work(const EngineWork& more, EngineWork* work) {
  append(&work->step_seconds, more.step_seconds);
  append(&work->wait_seconds, more.wait_seconds);
  for (StepKind EngineWork::*kind : {&EngineWork::prefill, &EngineWork::decode}) {
    (work->*kind).steps += (more.*kind).steps;
    (work->*kind).tokens += (more.*kind).tokens;
    (work->*kind).seconds += (more.*kind).seconds;
  }
  work->cached_tokens += more.cached_tokens;
  work->preemptions += more.preemptions;
  work->rows += more.rows;
  work->unique_rows += more.unique_rows;
  work->row_bytes += more.row_bytes;
  work->hash_seconds += more.hash_seconds;
  if (more.gather_seconds) {
    work->gather_seconds = work->gather_seconds.value_or(0) + *more.gather_seconds;
  }
  for (const OpWork& op : more.ops) {
    const auto found = std::ranges::find(work->ops, op.name, &OpWork::name);
    if (found == work->ops.end()) {
      work->ops.push_back(op);
      continue;
    }
    found->calls += op.calls;
    found->bytes += op.bytes;
    found->flops += op.flops;
  }
}

WorkMeter::WorkMeter(engine::Engine* engine) : engine_(engine), before_(engine->stats()) {}

void WorkMeter::poll() {
  const EngineStats now = engine_->stats();
  append(&work_.step_seconds, now.recent_step_seconds);
  append(&work_.wait_seconds, now.recent_exposed_wait_seconds);
}

EngineWork WorkMeter::read() {
  const EngineStats now = engine_->stats();
  append(&work_.step_seconds, now.recent_step_seconds);
  append(&work_.wait_seconds, now.recent_exposed_wait_seconds);
  EngineWork work = work_;
  const EngineStats& b = before_;
  work.prefill = {
      now.prefill_steps - b.prefill_steps, now.prefill_tokens - b.prefill_tokens,
      seconds_of(b.prefill_step_ns, now.prefill_step_ns)};
  work.decode = {
      now.decode_steps - b.decode_steps, now.decode_tokens - b.decode_tokens,
      seconds_of(b.decode_step_ns, now.decode_step_ns)};
  work.cached_tokens = now.cached_tokens - b.cached_tokens;
  work.preemptions = now.preemptions - b.preemptions;
  subtract_rows(b, now, &work);
  subtract_ops(b, now, &work);
  return work;
}

double least_seconds(const OpWork& op, const MachinePeaks& peaks) {
  if (!(peaks.read_gbps > 0) || !(peaks.gflops > 0)) return 0;
  const double memory = 1e-9 * static_cast<double>(op.bytes) / peaks.read_gbps;
  const double compute = 1e-9 * static_cast<double>(op.flops) / peaks.gflops;
  return std::max(memory, compute);
}

Roofline hold_against(const EngineWork& work, const MachinePeaks& peaks) {
  Roofline roofline;
  double bytes = 0;
  double flops = 0;
  for (const OpWork& op : work.ops) {
    bytes += static_cast<double>(op.bytes);
    flops += static_cast<double>(op.flops);
    roofline.least_seconds += least_seconds(op, peaks);
  }
  const double seconds = work.seconds();
  if (!(seconds > 0)) return {};
  roofline.share = roofline.least_seconds / seconds;
  if (peaks.read_gbps > 0) roofline.memory_share = 1e-9 * bytes / seconds / peaks.read_gbps;
  if (peaks.gflops > 0) roofline.compute_share = 1e-9 * flops / seconds / peaks.gflops;
  return roofline;
}

}  // namespace engram::tools::bench
