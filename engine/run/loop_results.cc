// What becomes of a step's results: tokens are kept and delivered, and sequences and requests end.
#include <algorithm>

#include "engine/run/loop.h"

namespace engram::engine {

using memory::Status;

void EngineLoop::commit(Step& step, const std::vector<MissingRows>& missing) {
  const std::set<uint64_t> undone = judge_missing(step.plan, missing);
  std::erase_if(step.sampled, [&](const SamplingRow& s) {
    return undone.contains(s.sequence) || !is_live(s.sequence);
  });
  keep_prompt_logprobs(step, undone);
  count_gates(step.plan, undone);
  std::vector<int32_t> ids;
  for (const SamplingRow& sampled : step.sampled) {
    const SampleResult& result = step.coming[sampled.row];
    ids.push_back(result.finite ? result.id : 0);
    if (!result.finite) {
      owner(sampled.sequence).error = memory::internal(
          "the model's logits are not finite; weights, n-gram rows or logit_bias are at fault");
    }
  }
  scheduler_.commit(step.plan, ids, undone);
  fetch_sampled(step.sampled);
  for (const SamplingRow& s : step.sampled) deliver(s.sequence, step.coming[s.row]);
  for (auto next = live_.begin(); next != live_.end();) {
    LiveRequest& live = *(next++)->second;
    if (!live.error.ok()) end_request(live, live.error, FinishReason::kError);
  }
}

// For a sequence that read a missing row the step did not happen: nothing of it is sampled, told or
// kept in the cache. If the rows had been fetched ahead, it runs once more; else its request ends.
std::set<uint64_t> EngineLoop::judge_missing(
    const BatchPlan& plan, const std::vector<MissingRows>& missing) {
  std::set<uint64_t> undone;
  auto planned = plan.sequences.begin();
  for (const MissingRows& rows : missing) {
    undone.insert(rows.sequence);
    while (planned->sequence != rows.sequence) ++planned;
    Choice& of = choice(rows.sequence);
    if (rows.fetched_ahead && of.retried_at != planned->begin) {
      of.retried_at = planned->begin;
      ++totals_.row_retries;
    } else {
      owner(rows.sequence).error = rows.status;
    }
  }
  return undone;
}

void EngineLoop::keep_prompt_logprobs(const Step& step, const std::set<uint64_t>& undone) {
  const BatchPlan& plan = step.plan;
  for (size_t row = 0; row < step.rows.size(); ++row) {
    if (step.rows[row].sample) continue;
    const size_t token = static_cast<size_t>(plan.logit_tokens[row]);
    const size_t index = static_cast<size_t>(plan.sequence_of[token]);
    const uint64_t sequence = plan.sequences[index].sequence;
    if (undone.contains(sequence)) continue;
    LiveRequest& live = owner(sequence);
    if (!step.coming[row].finite) {
      live.error = memory::internal("the model's logits at a prompt position are not finite");
    }
    PositionLogprobs& kept = live.prompt_logprobs.emplace_back(to_logprobs(step.coming[row]));
    kept.id = step.rows[row].target;
  }
}

void EngineLoop::count_gates(const BatchPlan& plan, const std::set<uint64_t>& undone) {
  if (!parts_->prefetch->has_tickets()) return;
  for (const PlannedSequence& p : plan.sequences) {
    if (undone.contains(p.sequence) || !is_live(p.sequence)) continue;
    LiveRequest& live = owner(p.sequence);
    live.gate_tokens += p.count;
    for (size_t layer = 0; layer < live.gate_sums.size(); ++layer) {
      const std::span<const float> gates =
          parts_->runner->gates(static_cast<int>(layer))
              .subspan(static_cast<size_t>(p.token_begin), static_cast<size_t>(p.count));
      for (const float gate : gates) live.gate_sums[layer] += gate;
    }
  }
}

void EngineLoop::deliver(uint64_t sequence, const SampleResult& result) {
  LiveRequest& live = owner(sequence);
  if (!live.error.ok()) return;
  Choice& to = choice(sequence);
  const Request& request = live.request;
  Delta delta;
  delta.choice = to.index;
  if (!to.began) {
    to.began = true;
    if (request.sampling.echo) delta.text = to.output.echo(request.prompt_ids);
    delta.prompt_logprobs = live.prompt_logprobs;
  }
  if (live.usage.completion_tokens == 0) {
    live.usage.first_token_seconds = seconds_between(live.arrival, Clock::now());
  }
  ++live.usage.completion_tokens;
  ++totals_.generation_tokens;
  std::optional<Finish> finish;
  delta.text += to.output.push(result.id, &finish);
  delta.token_ids.push_back(result.id);
  if (request.sampling.logprobs >= 0) delta.logprobs.push_back(to_logprobs(result));
  request.sink->on_delta(std::move(delta));
  if (!finish.has_value()) return;
  ++totals_.finished[finish->reason];
  end_sequence(live, to);
  request.sink->on_finish(to.index, std::move(*finish));
  if (live.choices_left == 0) end_request(live, Status(), FinishReason::kNone);
}

void EngineLoop::end_sequence(LiveRequest& live, Choice& choice) {
  choice.finished = true;
  --live.choices_left;
  by_sequence_.erase(choice.sequence);
  parts_->prefetch->forget(choice.sequence);
  scheduler_.finish(choice.sequence);
}

void EngineLoop::end_request(LiveRequest& live, const Status& status, FinishReason reason) {
  for (Choice& choice : live.choices) {
    if (choice.finished) continue;
    end_sequence(live, choice);
    ++totals_.finished[reason];
    Delta rest;
    rest.choice = choice.index;
    rest.text = choice.output.flush();
    if (!rest.text.empty()) live.request.sink->on_delta(std::move(rest));
    live.request.sink->on_finish(choice.index, {reason, std::nullopt, std::nullopt});
  }
  finish_usage(live);
  parts_->prefetch->forget_usage(live.key);
  // The request is gone before its sink learns of it: who is told may look at once.
  const std::unique_ptr<LiveRequest> last = std::move(live_.at(live.key));
  live_.erase(last->key);
  by_id_.erase(last->request.id);
  publish_stats();
  {
    const std::lock_guard<std::mutex> lock(mu_);
    live_ids_.erase(last->request.id);
    if (!last->started) --queued_;
  }
  last->request.sink->on_done(status, last->usage);
  const std::lock_guard<std::mutex> lock(mu_);
  if (--open_requests_ == 0) idle_.notify_all();
}

void EngineLoop::finish_usage(LiveRequest& live) {
  Usage& usage = live.usage;
  usage.total_seconds = seconds_between(live.arrival, Clock::now());
  const FetchUsage& fetched = parts_->prefetch->usage(live.key);
  NgramUsage& ngram = usage.ngram;
  ngram.rows = fetched.rows;
  ngram.unique_rows = fetched.unique.size();
  ngram.bytes = fetched.bytes;
  ngram.hash_seconds = fetched.hash_ns * 1e-9;
  if (parts_->prefetch->times_gathers()) ngram.gather_seconds = fetched.gather_ns * 1e-9;
  if (parts_->prefetch->times_waits()) ngram.exposed_wait_seconds = fetched.exposed_wait_ns * 1e-9;
  if (live.gate_tokens == 0) return;
  for (size_t i = 0; i < live.gate_sums.size(); ++i) {
    const int layer = parts_->info.config.engram.layer_ids[i];
    ngram.mean_gate[layer] = live.gate_sums[i] / static_cast<double>(live.gate_tokens);
  }
}

}  // namespace engram::engine
