// From generated ids to what a client sees: text, stop strings, stop ids, length. One object per
// choice, one thread. No clocks and no queues: the same ids give the same output.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/tokenizer.h"
#include "engine/run/engine.h"

namespace engram::engine {

// Finds the first stop string in a text that arrives in pieces, and holds back what may become
// one. Of all matches the one that ends first wins, of those the longest: how the text is cut into
// pieces changes nothing.
class StopMatcher {
 public:
  // include: the match itself is part of the text.
  StopMatcher(std::vector<std::string> stops, bool include);

  struct Piece {
    std::string text;            // safe to send
    std::optional<size_t> stop;  // which stop string ended the text; nothing comes after it
  };
  Piece push(std::string_view text);
  // Sends on what push() held back and text that cannot take part in a match.
  std::string pass(std::string_view text);

 private:
  size_t held_back() const;

  std::vector<std::string> stops_;
  bool include_;
  std::string pending_;  // a prefix of some stop string
};

class ChoiceOutput {
 public:
  // eos: ids that end a text unless ignore_eos. The parameters and the tokenizer outlive this.
  ChoiceOutput(
      const Tokenizer& tokenizer,
      const SamplingParams& sampling,
      std::span<const int32_t> eos,
      int64_t max_tokens);

  // Text of the prompt, for echo. Before the first push().
  std::string echo(std::span<const int32_t> prompt);

  // Ids that must not be drawn after so many: those that would end the text before min_tokens.
  std::span<const int32_t> banned(int64_t generated) const;
  // Whether the choice may go on after the next id.
  bool may_continue() const { return generated_ + 1 < max_tokens_; }
  // Whether the choice goes on after this id unless a stop string is found in its text.
  bool continues_after(int32_t id) const;

  // The next generated id. Returns the text that became certain; sets `finish` when it was the
  // last one, and then the text is complete.
  std::string push(int32_t id, std::optional<Finish>* finish);
  // Text that is still held back, when the choice ends for another reason.
  std::string flush();

  int64_t generated() const { return generated_; }

 private:
  bool is_stop_id(int32_t id) const;

  const SamplingParams& sampling_;
  int64_t max_tokens_;
  std::vector<int32_t> stop_ids_;  // sorted
  IncrementalDecoder decoder_;
  StopMatcher matcher_;
  int64_t generated_ = 0;
};

}  // namespace engram::engine
