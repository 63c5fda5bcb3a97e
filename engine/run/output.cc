#include "engine/run/output.h"

#include <algorithm>
#include <utility>

namespace engram::engine {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include)
    : stops_(std::move(stops)), include_(include) {}

// Length of the longest end of the pending text that begins some stop string. As both are UTF-8,
// it begins at a code point.
size_t StopMatcher::held_back() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t k = std::min(stop.size() - 1, pending_.size()); k > longest; --k) {
      if (pending_.compare(pending_.size() - k, k, stop, 0, k) == 0) longest = k;
    }
  }
  return longest;
}

StopMatcher::Piece StopMatcher::push(std::string_view text) {
  if (stops_.empty()) return {std::string(text), std::nullopt};
  const size_t before = pending_.size();
  pending_ += text;
  size_t begin = 0;
  size_t end = std::string::npos;
  std::optional<size_t> match;
  for (size_t i = 0; i < stops_.size(); ++i) {
    const std::string& stop = stops_[i];
    const size_t from = before < stop.size() ? 0 : before - stop.size() + 1;
    const size_t at = pending_.find(stop, from);
    if (at == std::string::npos) continue;
    if (at + stop.size() < end || (at + stop.size() == end && at < begin)) {
      begin = at;
      end = at + stop.size();
      match = i;
    }
  }
  Piece piece;
  piece.stop = match;
  if (match.has_value()) {
    piece.text = pending_.substr(0, include_ ? end : begin);
    pending_.clear();
    return piece;
  }
  const size_t safe = pending_.size() - held_back();
  piece.text = pending_.substr(0, safe);
  pending_.erase(0, safe);
  return piece;
}

std::string StopMatcher::pass(std::string_view text) {
  std::string all = std::exchange(pending_, {});
  all += text;
  return all;
}

ChoiceOutput::ChoiceOutput(
    const Tokenizer& tokenizer,
    const SamplingParams& sampling,
    std::span<const int32_t> eos,
    int64_t max_tokens)
    : sampling_(sampling),
      max_tokens_(max_tokens),
      stop_ids_(sampling.stop_token_ids),
      decoder_(tokenizer, sampling.skip_special_tokens),
      matcher_(sampling.stop, sampling.include_stop_str_in_output) {
  if (!sampling.ignore_eos) stop_ids_.insert(stop_ids_.end(), eos.begin(), eos.end());
  std::ranges::sort(stop_ids_);
  stop_ids_.erase(std::ranges::unique(stop_ids_).begin(), stop_ids_.end());
}

std::string ChoiceOutput::echo(std::span<const int32_t> prompt) {
  std::string text;
  for (const int32_t id : prompt) text += decoder_.push(id);
  return text;
}

bool ChoiceOutput::is_stop_id(int32_t id) const {
  return std::ranges::binary_search(stop_ids_, id);
}

std::span<const int32_t> ChoiceOutput::banned(int64_t generated) const {
  if (generated >= sampling_.min_tokens) return {};
  return stop_ids_;
}

bool ChoiceOutput::continues_after(int32_t id) const {
  return may_continue() && !is_stop_id(id);
}

std::string ChoiceOutput::push(int32_t id, std::optional<Finish>* finish) {
  const bool may_match = generated_ >= sampling_.min_tokens;
  ++generated_;
  const bool stops = is_stop_id(id);
  const bool last = stops || generated_ >= max_tokens_;
  std::string text;
  if (!stops || sampling_.include_stop_str_in_output) text = decoder_.push(id);
  if (last) text += decoder_.flush();
  if (may_match) {
    StopMatcher::Piece piece = matcher_.push(text);
    if (piece.stop.has_value()) {
      *finish = Finish{FinishReason::kStop, std::nullopt, sampling_.stop[*piece.stop]};
      return std::move(piece.text);
    }
    text = std::move(piece.text);
  } else {
    text = matcher_.pass(text);
  }
  if (!last) return text;
  if (stops) {
    *finish = Finish{FinishReason::kStop, id, std::nullopt};
  } else {
    *finish = Finish{FinishReason::kLength, std::nullopt, std::nullopt};
  }
  return text + matcher_.pass({});
}

std::string ChoiceOutput::flush() {
  return matcher_.pass(decoder_.flush());
}

}  // namespace engram::engine
