// The messages of one call that wait to be sent. Deltas that come while a write is in flight are
// merged, so a slow reader gets fewer and larger messages and the engine never waits. A message is
// closed when it reaches kFullBytes, which keeps every one below what gRPC clients accept (4 MiB).
// Not thread-safe: the call's lock guards it.
#pragma once

#include <engram/v1/completions.pb.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "engine/run/engine.h"

namespace engram::server {

struct OutputSwitches {
  bool text = true;
  bool token_ids = true;
  bool token_bytes = false;
};

class ReplyBuilder {
 public:
  static constexpr int64_t kFullBytes = 1 << 20;

  // `tokenizer` is used for token bytes and must outlive this.
  ReplyBuilder(const OutputSwitches& switches, const engine::Tokenizer* tokenizer);

  // The first message's heading.
  void begin(const std::string& id, const std::string& model, int64_t created_seconds);
  // `choice` is the index over all prompts of the call.
  void add(int choice, engine::Delta&& delta);
  void finish(int choice, const engine::Finish& finish);
  void set_usage(const engine::Usage& usage, bool has_engram);

  bool empty() const { return messages_.empty(); }
  int64_t bytes() const { return bytes_; }  // estimate, of all messages
  // The oldest message; swaps, so that `out`'s memory is used again.
  void take(v1::CompleteResponse* out);
  // All messages as one, for the unary call: every choice once, in order.
  void take_all(v1::CompleteResponse* out);

 private:
  struct Message {
    v1::CompleteResponse body;
    int64_t bytes = 0;
  };

  Message& open_message();
  v1::Choice& choice_of(Message& message, int choice);
  void add_logprobs(
      int choice, const std::vector<engine::PositionLogprobs>& positions, bool of_prompt);
  void count(Message& message, int64_t bytes);

  const OutputSwitches switches_;
  const engine::Tokenizer* tokenizer_;
  std::deque<Message> messages_;
  v1::CompleteResponse spare_;
  int64_t bytes_ = 0;
};

}  // namespace engram::server
