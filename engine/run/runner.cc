#include "engine/run/runner.h"

#include <algorithm>
#include <utility>

namespace engram::engine {

using memory::Result;

Runner::Runner(memory::Device& device, memory::Stream& compute, Ops& ops, Model& model)
    : device_(device), compute_(compute), ops_(ops), model_(model) {
  for (Step& step : steps_) step.done = device.make_event();
}

Result<std::unique_ptr<Runner>> Runner::make(
    memory::Device& device,
    memory::Stream& compute,
    Ops& ops,
    Model& model,
    int engram_layers,
    const RunnerLimits& limits) {
  std::unique_ptr<Runner> runner(new Runner(device, compute, ops, model));
  runner->limits_ = limits;
  // Per token: id, position, cache slot, staging slot, sequence, and being wanted.
  const int64_t entries = 6 * limits.max_num_batched_tokens + limits.max_num_seqs + 1 +
                          limits.max_num_seqs * limits.max_pages;
  Result<memory::Buffer> arrays =
      device.allocate("batch arrays", entries * static_cast<int64_t>(sizeof(int32_t)));
  if (!arrays.ok()) return arrays.status();
  runner->arrays_ = std::move(arrays).value();
  Result<memory::Buffer> host = device.allocate_pinned("batch arrays", runner->arrays_.bytes());
  if (!host.ok()) return host.status();
  runner->host_arrays_ = std::move(host).value();
  Result<memory::Buffer> sampled = device.allocate(
      "sampled ids", limits.max_num_batched_tokens * static_cast<int64_t>(sizeof(int32_t)));
  if (!sampled.ok()) return sampled.status();
  runner->sampled_ = std::move(sampled).value();
  for (Step& step : runner->steps_) {
    for (int i = 0; i < engram_layers; ++i) {
      const View gates = model.gates(i);
      Result<memory::Buffer> copy = device.allocate_pinned(
          "gates", gates.rows * gates.cols * static_cast<int64_t>(sizeof(float)));
      if (!copy.ok()) return copy.status();
      step.gates.push_back(std::move(copy).value());
    }
  }
  return runner;
}

memory::Status Runner::record_decodes(
    std::vector<StagedRows> staged, StepRows* step_rows, int32_t scratch_slot, bool with_rows) {
  Result<std::unique_ptr<DecodeGraphs>> graphs = DecodeGraphs::make(
      device_, compute_, ops_, model_, std::move(staged), step_rows,
      {.max_num_seqs = limits_.max_num_seqs,
       .max_pages = limits_.max_pages,
       .logit_rows = limits_.logit_rows,
       .scratch_slot = scratch_slot,
       .sampled = sampled_.as<int32_t>()});
  if (!graphs.ok()) return graphs.status();
  graphs_ = std::move(graphs).value();
  graphs_->record_all(with_rows);
  return {};
}

// Where the values will be on the device.
const int32_t* Runner::put(std::span<const int32_t> values) {
  ENGRAM_CHECK(
      static_cast<int64_t>((used_ + values.size()) * sizeof(int32_t)) <= host_arrays_.bytes());
  std::ranges::copy(values, host_arrays_.as<int32_t>() + used_);
  return arrays_.as<int32_t>() + std::exchange(used_, used_ + values.size());
}

Batch Runner::upload(
    const BatchPlan& plan, std::span<const int32_t> row_slots, const int32_t** wanted) {
  used_ = 0;
  Batch batch;
  batch.tokens = plan.tokens();
  batch.sequences = static_cast<int64_t>(plan.sequences.size());
  batch.max_pages = plan.max_pages;
  batch.ids = put(plan.ids);
  batch.positions = put(plan.positions);
  batch.slots = put(plan.slots);
  batch.row_slots = row_slots.empty() ? nullptr : put(row_slots);
  batch.sequence_of = put(plan.sequence_of);
  batch.token_begin = put(plan.token_begin);
  batch.page_table = put(plan.page_table);
  for (const PlannedSequence& p : plan.sequences) {
    batch.context_tokens += p.begin + p.count;
    batch.attended += p.count * p.begin + p.count * (p.count + 1) / 2;
  }
  *wanted = put(plan.logit_tokens);
  device_.copy(
      compute_, arrays_.data(), host_arrays_.data(), static_cast<int64_t>(used_ * sizeof(int32_t)));
  return batch;
}

std::span<const SampleResult> Runner::start(
    const BatchPlan& plan,
    std::span<const int32_t> row_slots,
    std::span<const int32_t> windows,
    std::vector<Ticket> tickets,
    std::span<const SampleRow> rows) {
  ENGRAM_CHECK(rows.size() == plan.logit_tokens.size());
  ENGRAM_CHECK(started_ - finished_ == (plan.ahead() ? 1u : 0u));
  Step& step = steps_[started_++ % steps_.size()];
  const bool has_gates = !tickets.empty();
  const bool recorded = graphs_ != nullptr && graphs_->takes(plan);
  ENGRAM_CHECK(recorded || (windows.empty() && !plan.ahead()));
  if (recorded) {
    graphs_->run(plan, row_slots, windows, std::move(tickets));
  } else {
    const int32_t* wanted = nullptr;
    const Batch batch = upload(plan, row_slots, &wanted);
    model_.forward(compute_, batch, wanted, std::ssize(rows), std::move(tickets));
  }
  sample(recorded, rows, step.results);
  for (size_t i = 0; has_gates && i < step.gates.size(); ++i) {
    const View gates = model_.gates(static_cast<int>(i));
    device_.copy(
        compute_, step.gates[i].data(), gates.data,
        plan.tokens() * gates.cols * static_cast<int64_t>(sizeof(float)));
  }
  compute_.record(*step.done);
  return step.results;
}

void Runner::sample(
    bool recorded, std::span<const SampleRow> rows, std::vector<SampleResult>& results) {
  results.assign(rows.size(), SampleResult{});
  const int64_t count = std::ssize(rows);
  for (int64_t first = 0; first < count; first += limits_.logit_rows) {
    const int64_t slice = std::min(limits_.logit_rows, count - first);
    const View logits =
        recorded ? graphs_->logits(first, slice) : model_.logits(compute_, first, slice);
    ops_.sample(
        compute_, logits, rows.subspan(static_cast<size_t>(first), static_cast<size_t>(slice)),
        std::span(results).subspan(static_cast<size_t>(first), static_cast<size_t>(slice)),
        {.before = recorded ? graphs_->ids() + first : nullptr,
         .now = sampled_.as<int32_t>() + first});
  }
}

std::span<const SampleResult> Runner::finish() {
  ENGRAM_CHECK(started_ > finished_);
  const Step& step = steps_[finished_++ % steps_.size()];
  step.done->synchronize();
  ops_.deliver_samples();
  return step.results;
}

std::span<const float> Runner::gates(int engram) const {
  ENGRAM_CHECK(finished_ > 0);
  const Step& step = steps_[(finished_ - 1) % steps_.size()];
  const memory::Buffer& gates = step.gates[static_cast<size_t>(engram)];
  return {gates.as<float>(), static_cast<size_t>(gates.bytes()) / sizeof(float)};
}

}  // namespace engram::engine
