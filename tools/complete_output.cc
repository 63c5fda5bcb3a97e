#include "tools/complete_output.h"

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

namespace engram::tools {
namespace {

using Json = nlohmann::ordered_json;

const char* reason_name(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_CANCELLED:
      return "cancelled";
    case v1::FINISH_REASON_TIME_LIMIT:
      return "time_limit";
    case v1::FINISH_REASON_ERROR:
      return "error";
    default:
      return "";
  }
}

Json positions_of(const v1::Logprobs& logprobs) {
  Json positions = Json::array();
  for (int i = 0; i < logprobs.token_ids_size(); ++i) {
    Json position = {
        {"token_id", logprobs.token_ids(i)},
        {"logprob", logprobs.logprobs(i)},
        {"rank", logprobs.ranks(i)}};
    if (i < logprobs.top_size()) {
      Json top = Json::array();
      for (int k = 0; k < logprobs.top(i).token_ids_size(); ++k) {
        top.push_back(
            {{"token_id", logprobs.top(i).token_ids(k)}, {"logprob", logprobs.top(i).logprobs(k)}});
      }
      position["top"] = std::move(top);
    }
    positions.push_back(std::move(position));
  }
  return positions;
}

std::string bytes_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  char text[40];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

void print_ngram(const v1::NgramUsage& ngram) {
  std::fprintf(
      stderr, "n-gram rows   %llu (%llu distinct), %s read; hash %.2f ms",
      static_cast<unsigned long long>(ngram.rows()),
      static_cast<unsigned long long>(ngram.unique_rows()), bytes_text(ngram.bytes()).c_str(),
      ngram.hash_seconds() * 1e3);
  if (ngram.has_gather_seconds()) {
    std::fprintf(stderr, ", gather %.2f ms", ngram.gather_seconds() * 1e3);
  }
  if (ngram.has_exposed_wait_seconds()) {
    std::fprintf(stderr, ", exposed wait %.3f ms", ngram.exposed_wait_seconds() * 1e3);
  }
  std::fprintf(stderr, "\n");
  const std::map<uint32_t, double> gates(ngram.mean_gate().begin(), ngram.mean_gate().end());
  if (gates.empty()) return;
  std::fprintf(stderr, "n-gram gates ");
  for (const auto& [layer, gate] : gates) std::fprintf(stderr, " layer %u: %.3f", layer, gate);
  std::fprintf(stderr, "\n");
}

}  // namespace

void CompleteOutput::add(const v1::CompleteResponse& message, bool print_text) {
  for (const v1::Choice& delta : message.choices()) {
    while (choices_.size() <= delta.index()) choices_.emplace_back();
    v1::Choice& whole = choices_[delta.index()];
    const std::string before = std::move(*whole.mutable_text());
    whole.MergeFrom(delta);
    whole.set_text(before + delta.text());
    if (!print_text || choices_.size() > 1) continue;
    std::fwrite(delta.text().data(), 1, delta.text().size(), stdout);
    std::fflush(stdout);
  }
  if (message.has_usage()) usage_ = message.usage();
}

void CompleteOutput::print_choices() const {
  if (choices_.size() == 1) {
    if (choices_[0].text().empty() || choices_[0].text().back() != '\n') std::printf("\n");
    std::fflush(stdout);  // before the statistics on stderr
    return;
  }
  for (size_t i = 0; i < choices_.size(); ++i) {
    std::printf("[%zu] %s\n", i, choices_[i].text().c_str());
  }
}

void CompleteOutput::print_json() const {
  for (const v1::Choice& choice : choices_) {
    Json object = {
        {"index", choice.index()},
        {"text", choice.text()},
        {"token_ids", std::vector<uint32_t>(choice.token_ids().begin(), choice.token_ids().end())},
        {"finish_reason", reason_name(choice.finish_reason())}};
    if (choice.has_stop_token_id()) object["matched_stop"] = choice.stop_token_id();
    if (choice.has_stop_string()) object["matched_stop"] = choice.stop_string();
    object["prompt_tokens"] = usage_.prompt_tokens();
    // Usage counts all choices together; a single one agrees with it, echo or not.
    object["completion_tokens"] = choices_.size() == 1
                                      ? usage_.completion_tokens()
                                      : static_cast<uint64_t>(choice.token_ids_size());
    if (choice.has_logprobs()) object["logprobs"] = positions_of(choice.logprobs());
    if (choice.has_prompt_logprobs()) {
      object["prompt_logprobs"] = positions_of(choice.prompt_logprobs());
    }
    std::printf("%s\n", object.dump().c_str());
  }
}

void CompleteOutput::print_stats(double client_seconds) const {
  const double decode = usage_.total_seconds() - usage_.first_token_seconds();
  const uint64_t first = choices_.size();
  const double rate = usage_.completion_tokens() > first && decode > 0
                          ? static_cast<double>(usage_.completion_tokens() - first) / decode
                          : 0;
  std::fprintf(
      stderr, "tokens        %llu prompt (%llu cached), %llu generated\n",
      static_cast<unsigned long long>(usage_.prompt_tokens()),
      static_cast<unsigned long long>(usage_.cached_tokens()),
      static_cast<unsigned long long>(usage_.completion_tokens()));
  std::fprintf(
      stderr,
      "speed         %.1f tokens/s after the first; first token %.1f ms, queue %.1f ms, total "
      "%.1f ms (seen here %.1f ms)\n",
      rate, usage_.first_token_seconds() * 1e3, usage_.queue_seconds() * 1e3,
      usage_.total_seconds() * 1e3, client_seconds * 1e3);
  if (usage_.has_ngram()) print_ngram(usage_.ngram());
}

}  // namespace engram::tools
