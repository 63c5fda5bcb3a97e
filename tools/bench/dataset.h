// What a load run asks: prompts and lengths, made from a seed or read from a local file. Nothing is
// fetched. Names and flags are those of `vllm bench serve` where it has them. The same options give
// the same requests on every machine. One thread; memory is 4 bytes per id of a prompt.
//
//   random             ids of exact length, all with a common prefix where one is asked for
//   prefix_repetition  (also prefix-tree) prompts that share prefixes, for prefix caches
//   custom             JSONL: {"prompt": "text"} or {"prompt_ids": [..]}, with "output_tokens" or
//                      not
//   sharegpt           the JSON array of ShareGPT_V3_unfiltered_cleaned_split.json: the first turn
//                      asks, the second says how long the answer is
//   trace              JSONL, with times of its own: Mooncake's {"timestamp": ms, "input_length",
//                      "output_length", "hash_ids"} or BurstGPT's {"Timestamp": s, "Request
//                      tokens", "Response tokens"}
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/records.h"

namespace engram::tools::bench {

// How many tokens a text has, without special ones: the server's tokenizer or a local one.
using CountTokens = std::function<memory::Result<int64_t>(const std::string& text)>;

struct DatasetOptions {
  std::string name = "random";  // --dataset-name
  std::string path;             // --dataset-path
  int64_t num_prompts = 1000;   // 0: all that a trace has
  uint64_t seed = 0;
  // Drawn ids are below vocab_size and none of excluded_ids (special tokens).
  uint32_t vocab_size = 0;
  std::vector<uint32_t> excluded_ids = {};
  // Synthetic prompts and traces generate to the asked length in any case.
  bool ignore_eos = false;
  // Of files: what is short of num_prompts is repeated, and the order is drawn, unless these say
  // otherwise. Traces do neither.
  bool no_oversample = false;
  bool disable_shuffle = false;

  // random: lengths are drawn evenly from [len (1 - ratio), len (1 + ratio)], at least 1; the
  // prefix comes on top of the input length.
  int64_t random_input_len = 1024;
  int64_t random_output_len = 128;
  int64_t random_prefix_len = 0;
  double random_range_ratio = 0;

  // prefix_repetition: each prompt is one of num_prefixes prefixes and a suffix of its own, evenly
  // and in drawn order. With levels above 1 the prefixes are the leaves of a tree: each is that
  // many equal pieces, and `branching` prefixes in a row share all but the last piece, branching^2
  // all but the last two, and so on.
  int64_t prefix_repetition_prefix_len = 256;
  int64_t prefix_repetition_suffix_len = 256;
  int64_t prefix_repetition_num_prefixes = 10;
  int64_t prefix_repetition_output_len = 128;
  int64_t prefix_tree_levels = 1;
  int64_t prefix_tree_branching = 2;

  int64_t custom_output_len = 256;   // of lines that do not say
  int64_t sharegpt_output_len = -1;  // -1: as long as the answer in the file

  // trace: tokens that one hash id stands for. Equal ids give equal tokens, so prefix caches see
  // the hits of the trace.
  int64_t trace_block_tokens = 512;
  // Requests with more tokens than this, input and output together, are left out; 0: none is.
  int64_t trace_max_tokens = 0;
};

struct Dataset {
  std::vector<PlannedRequest> requests;
  int64_t skipped = 0;  // of the file: filtered out (lengths, answers of no tokens)
  bool timed = false;   // at_s is set, in seconds as the trace counts
};

// INVALID_ARGUMENT for flags that cannot be (named) and for bad files: "FILE:LINE: what is wrong",
// a file that ends too early included; NOT_FOUND and the like for files that cannot be read; what
// `count` says when it fails. `count` may be empty unless the dataset is sharegpt.
memory::Result<Dataset> load_dataset(const DatasetOptions& options, const CountTokens& count);

}  // namespace engram::tools::bench
