// What is known of a call when it is over: one access line and one set of observations. Plain data.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "memory/base/status.h"

namespace engram::server {

// Upper bounds in seconds; one more bucket for the rest.
inline constexpr std::array kInterTokenBuckets = {0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,
                                                  0.15,  0.2,   0.3,  0.4,   0.5,  0.75,  1.0,
                                                  2.5,   5.0,   7.5,  10.0,  20.0, 40.0,  80.0};

// Times between the tokens of one call. Counted here and merged into the shared histogram once, so
// that a token takes no lock of it.
struct InterTokenTimes {
  std::array<double, kInterTokenBuckets.size() + 1> counts{};
  double sum = 0;

  void add(double seconds) {
    size_t bucket = 0;
    while (bucket < kInterTokenBuckets.size() && seconds > kInterTokenBuckets[bucket]) ++bucket;
    counts[bucket] += 1;
    sum += seconds;
  }
};

struct CallRecord {
  std::string service;
  std::string method;
  std::string request_id;
  std::string peer;
  std::string model;
  memory::Code code = memory::Code::kOk;
  std::string message;
  bool submitted = false;  // the engine took it; what follows is set then
  std::string rejected;    // why it did not: queue_full, kv, too_long, invalid, draining, ...
  std::string aborted;     // who ended it early: client, deadline, drain, stall, error
  std::map<engine::FinishReason, int64_t> finished;  // choices
  engine::Usage usage;
  int choices = 0;  // n
  int64_t max_tokens = -1;
  double first_token_seconds = 0;  // 0: there was none
  double total_seconds = 0;
  int64_t messages = 0;
  InterTokenTimes inter_token;
};

}  // namespace engram::server
