#include "tools/bench/load_stream.h"

#include <algorithm>
#include <utility>

namespace engram::tools::bench {
namespace {

constexpr int64_t kMostReserved = 8192;  // messages

template <typename Duration>
Duration duration_of(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

LoadStream::LoadStream(
    const Setting& setting, size_t index, const PlannedRequest& plan, v1::CompleteRequest request)
    : setting_(setting),
      index_(index),
      read_pause_s_(plan.read_pause_s),
      request_(std::move(request)) {
  record_.planned_s = plan.at_s;
  record_.prompt_tokens = plan.prompt_tokens;
  record_.messages.reserve(
      static_cast<size_t>(std::clamp<int64_t>(plan.max_tokens, 1, kMostReserved)));
}

void LoadStream::start(v1::Completions::Stub* stub, double ready_s) {
  if (setting_.timeout_s > 0) {
    context_.set_deadline(
        std::chrono::system_clock::now() +
        duration_of<std::chrono::system_clock::duration>(setting_.timeout_s));
  }
  record_.ready_s = ready_s;
  record_.sent_s = now();
  stub->async()->StreamComplete(&context_, &request_, this);
  if (read_pause_s_ > 0) AddHold();  // the timers' thread starts reads
  StartRead(&message_);
  StartCall();
}

void LoadStream::OnReadDone(bool ok) {
  const double at_s = now();
  if (!ok) {
    if (read_pause_s_ > 0) RemoveHold();
    return;
  }
  note(at_s);
  if (read_pause_s_ <= 0) {
    StartRead(&message_);
    return;
  }
  setting_.timers->add(
      RunClock::now() + duration_of<RunClock::duration>(read_pause_s_),
      [self = shared_from_this()] { self->StartRead(&self->message_); });
}

void LoadStream::note(double at_s) {
  int32_t tokens = 0;
  for (const v1::Choice& choice : message_.choices()) tokens += choice.token_ids_size();
  if (tokens > 0) record_.messages.push_back({at_s, tokens});
  record_.done_s = at_s;
  record_.output_tokens += tokens;
  record_.bytes += static_cast<int64_t>(message_.ByteSizeLong());
  if (message_.has_usage()) {
    record_.prompt_tokens = static_cast<int64_t>(message_.usage().prompt_tokens());
    record_.output_tokens = static_cast<int64_t>(message_.usage().completion_tokens());
  }
  if (setting_.keep_text) {
    for (const v1::Choice& choice : message_.choices()) record_.text += choice.text();
  }
}

}  // namespace engram::tools::bench
