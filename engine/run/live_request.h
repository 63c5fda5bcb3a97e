// One request while the engine works on it: its choices, their output, and what is counted for it.
// Engine thread only; no decisions, no locks.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "engine/run/engine.h"
#include "engine/run/output.h"
#include "engine/sched/prefetch.h"

namespace engram::engine {

struct Choice {
  Choice(int number, uint64_t id, ChoiceOutput text)
      : index(number), sequence(id), output(std::move(text)) {}

  int index;
  uint64_t sequence;
  ChoiceOutput output;
  uint64_t seed = 0;
  int64_t retried_at = -1;  // begin of the last chunk that is run again for want of rows
  bool began = false;       // its first delta was made
  bool finished = false;    // on_finish() was called
};

struct LiveRequest {
  uint64_t key = 0;  // of the prefetch's accounts
  Request request;
  Clock::time_point arrival;
  std::deque<Choice> choices;  // a deque: ChoiceOutput does not move
  std::vector<PositionLogprobs> prompt_logprobs;
  int64_t choices_left = 0;
  bool started = false;  // some of it was in a step
  memory::Status error;  // what went wrong in this step

  Usage usage;
  std::vector<double> gate_sums;  // per Engram layer
  int64_t gate_tokens = 0;
};

inline double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

inline PositionLogprobs to_logprobs(const SampleResult& result) {
  PositionLogprobs p{.id = result.id, .logprob = result.logprob, .rank = result.rank, .top = {}};
  for (const TokenLogprob& top : result.top) p.top.push_back({top.id, top.logprob});
  return p;
}

}  // namespace engram::engine
