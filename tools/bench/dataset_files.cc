// Datasets read from files.
#include <algorithm>
#include <string>
#include <utility>

#include "memory/io/file.h"
#include "tools/bench/dataset_lines.h"
#include "tools/bench/dataset_sources.h"
#include "tools/bench/record_file.h"

namespace engram::tools::bench {
namespace {

using memory::invalid_argument;
using memory::Result;
using memory::Status;

// The limits of ShareGPT benchmarks since vLLM's first: what is shorter is noise, what is longer
// did not fit the models of then; figures are compared across both.
constexpr int64_t kShareGptMinTokens = 4;
constexpr int64_t kShareGptMaxPrompt = 1024;
constexpr int64_t kShareGptMaxTotal = 2048;

// What a message says when it is about the last line and nothing ends that line.
Status with_cut_off_hint(Status status, const Line& line) {
  if (status.ok() || !line.last_and_open) return status;
  return {status.code(), status.message() + " (the file's last line; was it cut off?)"};
}

// Repeats the requests in their order until there are `wanted`.
void oversample(int64_t wanted, std::vector<PlannedRequest>* requests) {
  const size_t have = requests->size();
  requests->reserve(static_cast<size_t>(wanted));
  for (size_t i = 0; have > 0 && requests->size() < static_cast<size_t>(wanted); ++i) {
    requests->push_back((*requests)[i % have]);
  }
}

// As many as asked for of what the file gave.
Result<Dataset> finish(const DatasetOptions& o, Dataset dataset) {
  if (dataset.requests.empty()) {
    return invalid_argument(
        o.path + ": expected requests, found none that could be used (" +
        std::to_string(dataset.skipped) + " were left out)");
  }
  const int64_t have = static_cast<int64_t>(dataset.requests.size());
  if (have < o.num_prompts && !o.no_oversample) oversample(o.num_prompts, &dataset.requests);
  if (have > o.num_prompts) dataset.requests.resize(static_cast<size_t>(o.num_prompts));
  return dataset;
}

// The prompt and its length; `count` where it is text that can be counted.
Result<PlannedRequest> custom_request(
    const DatasetOptions& o, CustomLine line, const CountTokens& count) {
  PlannedRequest request;
  request.prompt_ids = std::move(line.ids);
  request.prompt_text = std::move(line.prompt);
  request.prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  if (request.prompt_ids.empty() && count) {
    const Result<int64_t> tokens = count(request.prompt_text);
    if (!tokens.ok()) return tokens.status();
    request.prompt_tokens = tokens.value();
  }
  request.max_tokens = line.output_tokens > 0 ? line.output_tokens : o.custom_output_len;
  request.ignore_eos = o.ignore_eos;
  return request;
}

// A conversation as a request; no prompt where the limits leave it out.
Result<PlannedRequest> conversation_request(
    const DatasetOptions& o, Conversation conversation, const CountTokens& count) {
  PlannedRequest request;
  if (conversation.prompt.empty()) return request;
  const Result<int64_t> prompt = count(conversation.prompt);
  if (!prompt.ok()) return prompt.status();
  if (prompt.value() < kShareGptMinTokens || prompt.value() > kShareGptMaxPrompt) return request;
  int64_t answer = o.sharegpt_output_len;
  if (answer < 0) {
    const Result<int64_t> counted = count(conversation.answer);
    if (!counted.ok()) return counted.status();
    answer = counted.value();
    if (answer < kShareGptMinTokens) return request;
  }
  if (prompt.value() + answer > kShareGptMaxTotal) return request;
  request.prompt_text = std::move(conversation.prompt);
  request.prompt_tokens = prompt.value();
  request.max_tokens = answer;
  request.ignore_eos = o.ignore_eos;
  return request;
}

// Builds the prompts of a trace.
class TracePrompts {
 public:
  TracePrompts(const DatasetOptions& options, PromptIds ids)
      : options_(options), ids_(std::move(ids)), rest_(random_of(options, Stream::kIds)) {}

  Result<PlannedRequest> request_of(const TraceLine& line, const std::string& where) {
    const int64_t block = options_.trace_block_tokens;
    const int64_t blocks = (line.input_tokens + block - 1) / block;
    if (static_cast<int64_t>(line.hash_ids.size()) > blocks) {
      return invalid_argument(
          where + ": hash_ids has " + std::to_string(line.hash_ids.size()) +
          " entries, expected at most " + std::to_string(blocks) + " blocks of " +
          std::to_string(block) + " for input_length " + std::to_string(line.input_tokens) +
          " (--trace-block-tokens)");
    }
    PlannedRequest request;
    request.at_s = line.at_s;
    request.prompt_tokens = line.input_tokens;
    request.max_tokens = line.output_tokens;
    request.ignore_eos = true;
    int64_t left = line.input_tokens;
    for (const uint64_t hash : line.hash_ids) {
      // The whole block is drawn by the hash alone; the last may end early.
      Random random = random_of_item(options_, Stream::kBlocks, hash);
      ids_.append(std::min(block, left), &random, &request.prompt_ids);
      left -= std::min(block, left);
    }
    ids_.append(left, &rest_, &request.prompt_ids);
    return request;
  }

 private:
  const DatasetOptions& options_;
  PromptIds ids_;
  Random rest_;  // what no hash stands for
};

}  // namespace

Result<Dataset> custom_dataset(const DatasetOptions& o, const CountTokens& count) {
  if (o.custom_output_len < 1 || o.custom_output_len > kMaxLineTokens) {
    return invalid_argument(
        "--custom-output-len: expected at least 1, found " + std::to_string(o.custom_output_len));
  }
  const Result<memory::File> file = memory::File::open(o.path);
  if (!file.ok()) return file.status();
  std::vector<CustomLine> lines;
  ENGRAM_RETURN_IF_ERROR(for_each_line(file.value(), [&](const Line& line) -> Result<bool> {
    Result<CustomLine> parsed = parse_custom_line(line.text, line.where);
    if (!parsed.ok()) return with_cut_off_hint(parsed.status(), line);
    lines.push_back(std::move(parsed).value());
    return true;
  }));
  Random order = random_of(o, Stream::kOrder);
  if (!o.disable_shuffle) order.shuffle(lines);
  // Only what is used is counted: that may ask the server.
  if (static_cast<int64_t>(lines.size()) > o.num_prompts) {
    lines.resize(static_cast<size_t>(o.num_prompts));
  }
  Dataset dataset;
  for (CustomLine& line : lines) {
    Result<PlannedRequest> request = custom_request(o, std::move(line), count);
    if (!request.ok()) return request.status();
    dataset.requests.push_back(std::move(request).value());
  }
  return finish(o, std::move(dataset));
}

Result<Dataset> sharegpt_dataset(const DatasetOptions& o, const CountTokens& count) {
  if (!count) {
    return invalid_argument("dataset sharegpt: expected a tokenizer to count tokens, found none");
  }
  const int64_t longest = kShareGptMaxTotal - kShareGptMinTokens;
  if (o.sharegpt_output_len != -1 &&
      (o.sharegpt_output_len < 1 || o.sharegpt_output_len > longest)) {
    return invalid_argument(
        "--sharegpt-output-len: expected from 1 to " + std::to_string(longest) + ", found " +
        std::to_string(o.sharegpt_output_len));
  }
  const Result<memory::File> file = memory::File::open(o.path);
  if (!file.ok()) return file.status();
  Result<std::vector<RecordPlace>> places = find_records(file.value());
  if (!places.ok()) return places.status();
  Random order = random_of(o, Stream::kOrder);
  if (!o.disable_shuffle) order.shuffle(places.value());
  Dataset dataset;
  std::string text;
  for (const RecordPlace& place : places.value()) {
    if (static_cast<int64_t>(dataset.requests.size()) == o.num_prompts) break;
    text.resize(static_cast<size_t>(place.bytes));
    ENGRAM_RETURN_IF_ERROR(file.value().read(place.offset, place.bytes, text.data()));
    Result<Conversation> conversation =
        parse_conversation(text, o.path + ":" + std::to_string(place.line));
    if (!conversation.ok()) return conversation.status();
    Result<PlannedRequest> request =
        conversation_request(o, std::move(conversation).value(), count);
    if (!request.ok()) return request.status();
    if (request.value().prompt_text.empty()) {
      ++dataset.skipped;
    } else {
      dataset.requests.push_back(std::move(request).value());
    }
  }
  return finish(o, std::move(dataset));
}

Result<Dataset> trace_dataset(const DatasetOptions& o) {
  if (o.trace_block_tokens < 1 || o.trace_block_tokens > kMaxLineTokens) {
    return invalid_argument(
        "--trace-block-tokens: expected at least 1, found " + std::to_string(o.trace_block_tokens));
  }
  if (o.trace_max_tokens < 0) {
    return invalid_argument(
        "--trace-max-tokens: expected 0 (no limit) or more, found " +
        std::to_string(o.trace_max_tokens));
  }
  Result<PromptIds> ids = PromptIds::make(o);
  if (!ids.ok()) return ids.status();
  const Result<memory::File> file = memory::File::open(o.path);
  if (!file.ok()) return file.status();
  TracePrompts prompts(o, std::move(ids).value());
  Dataset dataset;
  dataset.timed = true;
  ENGRAM_RETURN_IF_ERROR(for_each_line(file.value(), [&](const Line& line) -> Result<bool> {
    const Result<TraceLine> parsed = parse_trace_line(line.text, line.where);
    if (!parsed.ok()) return with_cut_off_hint(parsed.status(), line);
    const int64_t tokens = parsed.value().input_tokens + parsed.value().output_tokens;
    if (parsed.value().output_tokens == 0 ||
        (o.trace_max_tokens > 0 && tokens > o.trace_max_tokens)) {
      ++dataset.skipped;
      return true;
    }
    Result<PlannedRequest> request = prompts.request_of(parsed.value(), line.where);
    if (!request.ok()) return with_cut_off_hint(request.status(), line);
    dataset.requests.push_back(std::move(request).value());
    return static_cast<int64_t>(dataset.requests.size()) != o.num_prompts;
  }));
  DatasetOptions once = o;
  once.no_oversample = true;
  if (once.num_prompts == 0) once.num_prompts = static_cast<int64_t>(dataset.requests.size());
  return finish(once, std::move(dataset));
}

}  // namespace engram::tools::bench
