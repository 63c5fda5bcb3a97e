#include "server/reply_builder.h"

#include <algorithm>
#include <utility>

namespace engram::server {
namespace {

v1::FinishReason reason_of(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case engine::FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case engine::FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case engine::FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case engine::FinishReason::kTimeLimit:
      return v1::FINISH_REASON_TIME_LIMIT;
    case engine::FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void set_ngram(const engine::NgramUsage& from, v1::NgramUsage* to) {
  to->set_rows(static_cast<uint64_t>(from.rows));
  to->set_unique_rows(static_cast<uint64_t>(from.unique_rows));
  to->set_bytes(static_cast<uint64_t>(from.bytes));
  to->set_hash_seconds(from.hash_seconds);
  if (from.gather_seconds) to->set_gather_seconds(*from.gather_seconds);
  if (from.exposed_wait_seconds) to->set_exposed_wait_seconds(*from.exposed_wait_seconds);
  for (const auto& [layer, gate] : from.mean_gate) {
    (*to->mutable_mean_gate())[static_cast<uint32_t>(layer)] = gate;
  }
}

}  // namespace

ReplyBuilder::ReplyBuilder(const OutputSwitches& switches, const engine::Tokenizer* tokenizer)
    : switches_(switches), tokenizer_(tokenizer) {}

void ReplyBuilder::begin(const std::string& id, const std::string& model, int64_t created_seconds) {
  v1::CompleteResponse& body = open_message().body;
  body.set_id(id);
  body.set_model(model);
  body.set_created(created_seconds);
}

ReplyBuilder::Message& ReplyBuilder::open_message() {
  if (messages_.empty() || messages_.back().bytes >= kFullBytes) {
    messages_.emplace_back();
    messages_.back().body.Swap(&spare_);
    messages_.back().body.Clear();
  }
  return messages_.back();
}

v1::Choice& ReplyBuilder::choice_of(Message& message, int choice) {
  const uint32_t index = static_cast<uint32_t>(choice);
  // Deltas of one step come in the order of the choices, so the wanted one is near the end.
  auto* choices = message.body.mutable_choices();
  for (int i = choices->size() - 1; i >= 0; --i) {
    if (choices->Get(i).index() == index) return *choices->Mutable(i);
  }
  v1::Choice& added = *choices->Add();
  added.set_index(index);
  return added;
}

void ReplyBuilder::count(Message& message, int64_t bytes) {
  message.bytes += bytes;
  bytes_ += bytes;
}

void ReplyBuilder::add(int choice, engine::Delta&& delta) {
  if (!delta.prompt_logprobs.empty()) add_logprobs(choice, delta.prompt_logprobs, true);
  {
    Message& message = open_message();
    v1::Choice& out = choice_of(message, choice);
    int64_t bytes = 8;
    if (switches_.text && !delta.text.empty()) {
      bytes += static_cast<int64_t>(delta.text.size());
      out.has_text() ? void(out.mutable_text()->append(delta.text))
                     : out.set_text(std::move(delta.text));
    }
    for (const int32_t id : delta.token_ids) {
      if (switches_.token_ids) out.add_token_ids(static_cast<uint32_t>(id));
      if (!switches_.token_bytes) continue;
      const std::string_view raw = tokenizer_->token_bytes(id);
      out.add_token_bytes(raw.data(), raw.size());
      bytes += static_cast<int64_t>(raw.size()) + 2;
    }
    count(message, bytes + 4 * static_cast<int64_t>(delta.token_ids.size()));
  }
  if (!delta.logprobs.empty()) add_logprobs(choice, delta.logprobs, false);
}

// Position by position: those of a long prompt fill many messages.
void ReplyBuilder::add_logprobs(
    int choice, const std::vector<engine::PositionLogprobs>& positions, bool of_prompt) {
  for (const engine::PositionLogprobs& position : positions) {
    Message& message = open_message();
    v1::Choice& out = choice_of(message, choice);
    v1::Logprobs& to = of_prompt ? *out.mutable_prompt_logprobs() : *out.mutable_logprobs();
    to.add_token_ids(static_cast<uint32_t>(position.id));
    to.add_logprobs(position.logprob);
    to.add_ranks(static_cast<uint32_t>(position.rank));
    if (!position.top.empty()) {
      v1::TopLogprobs& top = *to.add_top();
      for (const engine::TopLogprob& one : position.top) {
        top.add_token_ids(static_cast<uint32_t>(one.id));
        top.add_logprobs(one.logprob);
      }
    }
    count(message, 16 + 9 * static_cast<int64_t>(position.top.size()));
  }
}

void ReplyBuilder::finish(int choice, const engine::Finish& finish) {
  Message& message = open_message();
  v1::Choice& out = choice_of(message, choice);
  out.set_finish_reason(reason_of(finish.reason));
  if (finish.matched_token) out.set_stop_token_id(static_cast<uint32_t>(*finish.matched_token));
  if (finish.matched_string) out.set_stop_string(*finish.matched_string);
  count(message, 16);
}

void ReplyBuilder::set_usage(const engine::Usage& usage, bool has_engram) {
  Message& message = open_message();
  v1::Usage& to = *message.body.mutable_usage();
  to.set_prompt_tokens(static_cast<uint64_t>(usage.prompt_tokens));
  to.set_completion_tokens(static_cast<uint64_t>(usage.completion_tokens));
  to.set_cached_tokens(static_cast<uint64_t>(usage.cached_tokens));
  to.set_preemptions(static_cast<uint64_t>(usage.preemptions));
  to.set_queue_seconds(usage.queue_seconds);
  to.set_first_token_seconds(usage.first_token_seconds);
  to.set_total_seconds(usage.total_seconds);
  if (has_engram) set_ngram(usage.ngram, to.mutable_ngram());
  for (const std::string& version : usage.table_versions) to.add_table_versions(version);
  count(message, 128);
}

void ReplyBuilder::take(v1::CompleteResponse* out) {
  ENGRAM_CHECK(!messages_.empty());
  bytes_ -= messages_.front().bytes;
  out->Swap(&messages_.front().body);
  spare_.Swap(&messages_.front().body);
  messages_.pop_front();
}

void ReplyBuilder::take_all(v1::CompleteResponse* out) {
  out->Clear();
  std::vector<v1::Choice*> by_index;
  for (; !messages_.empty(); messages_.pop_front()) {
    v1::CompleteResponse& body = messages_.front().body;
    for (v1::Choice& part : *body.mutable_choices()) {
      const size_t index = part.index();
      while (by_index.size() <= index) {
        by_index.push_back(out->add_choices());
        by_index.back()->set_index(static_cast<uint32_t>(by_index.size() - 1));
      }
      v1::Choice& whole = *by_index[index];
      if (part.has_text() && whole.has_text()) {
        whole.mutable_text()->append(part.text());
        part.clear_text();
      }
      whole.MergeFrom(part);
    }
    body.clear_choices();
    out->MergeFrom(body);
  }
  bytes_ = 0;
}

}  // namespace engram::server
