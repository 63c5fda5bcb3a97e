// Datasets made from a seed alone.
#include <algorithm>
#include <cmath>
#include <string>

#include "tools/bench/dataset_lines.h"
#include "tools/bench/dataset_sources.h"

namespace engram::tools::bench {
namespace {

using memory::invalid_argument;
using memory::Result;
using memory::Status;

Status check_length(const char* flag, int64_t value, int64_t min) {
  if (value >= min && value <= kMaxLineTokens) return {};
  return invalid_argument(
      std::string(flag) + ": expected from " + std::to_string(min) + " to " +
      std::to_string(kMaxLineTokens) + ", found " + std::to_string(value));
}

// Evenly from [len (1 - ratio), len (1 + ratio)], rounded outwards.
class Lengths {
 public:
  Lengths(int64_t length, double ratio) {
    const double middle = static_cast<double>(length);
    low_ = std::max(static_cast<int64_t>(std::floor(middle * (1 - ratio))), int64_t{1});
    high_ = std::max(static_cast<int64_t>(std::ceil(middle * (1 + ratio))), low_);
  }
  int64_t draw(Random* random) const {
    return low_ + static_cast<int64_t>(random->below(static_cast<uint64_t>(high_ - low_ + 1)));
  }

 private:
  int64_t low_ = 1;
  int64_t high_ = 1;
};

Status check_random(const DatasetOptions& o) {
  ENGRAM_RETURN_IF_ERROR(check_length("--random-input-len", o.random_input_len, 1));
  ENGRAM_RETURN_IF_ERROR(check_length("--random-output-len", o.random_output_len, 1));
  ENGRAM_RETURN_IF_ERROR(check_length("--random-prefix-len", o.random_prefix_len, 0));
  if (o.random_range_ratio >= 0 && o.random_range_ratio < 1) return {};
  return invalid_argument(
      "--random-range-ratio: expected from 0 to less than 1, found " +
      std::to_string(o.random_range_ratio));
}

Status check_prefix(const DatasetOptions& o) {
  ENGRAM_RETURN_IF_ERROR(
      check_length("--prefix-repetition-prefix-len", o.prefix_repetition_prefix_len, 1));
  ENGRAM_RETURN_IF_ERROR(
      check_length("--prefix-repetition-suffix-len", o.prefix_repetition_suffix_len, 0));
  ENGRAM_RETURN_IF_ERROR(
      check_length("--prefix-repetition-num-prefixes", o.prefix_repetition_num_prefixes, 1));
  ENGRAM_RETURN_IF_ERROR(
      check_length("--prefix-repetition-output-len", o.prefix_repetition_output_len, 1));
  ENGRAM_RETURN_IF_ERROR(check_length("--prefix-tree-branching", o.prefix_tree_branching, 1));
  if (o.prefix_tree_levels >= 1 && o.prefix_tree_levels <= o.prefix_repetition_prefix_len) {
    return {};
  }
  return invalid_argument(
      "--prefix-tree-levels: expected from 1 to the " +
      std::to_string(o.prefix_repetition_prefix_len) + " tokens of a prefix, found " +
      std::to_string(o.prefix_tree_levels));
}

// Prefix `leaf`: a piece for every level, each that of the node above which the leaf hangs.
std::vector<uint32_t> prefix_of(const DatasetOptions& o, const PromptIds& ids, int64_t leaf) {
  std::vector<uint32_t> prefix;
  const int64_t levels = o.prefix_tree_levels;
  // From the leaf up, so that dividing by the branching once a level cannot overflow.
  std::vector<int64_t> nodes(static_cast<size_t>(levels), leaf);
  for (int64_t level = levels - 2; level >= 0; --level) {
    nodes[static_cast<size_t>(level)] =
        nodes[static_cast<size_t>(level + 1)] / o.prefix_tree_branching;
  }
  for (int64_t level = 0; level < levels; ++level) {
    const int64_t begin = o.prefix_repetition_prefix_len * level / levels;
    const int64_t end = o.prefix_repetition_prefix_len * (level + 1) / levels;
    const uint64_t item = static_cast<uint64_t>(level) << 32 |
                          static_cast<uint64_t>(nodes[static_cast<size_t>(level)]);
    Random random = random_of_item(o, Stream::kPrefixes, item);
    ids.append(end - begin, &random, &prefix);
  }
  return prefix;
}

}  // namespace

Result<Dataset> random_dataset(const DatasetOptions& o) {
  ENGRAM_RETURN_IF_ERROR(check_random(o));
  const Result<PromptIds> ids = PromptIds::make(o);
  if (!ids.ok()) return ids.status();
  const Lengths inputs(o.random_input_len, o.random_range_ratio);
  const Lengths outputs(o.random_output_len, o.random_range_ratio);
  Random lengths = random_of(o, Stream::kLengths);
  Random contents = random_of(o, Stream::kIds);
  Random prefixes = random_of(o, Stream::kPrefixes);
  std::vector<uint32_t> prefix;
  ids.value().append(o.random_prefix_len, &prefixes, &prefix);
  Dataset dataset;
  dataset.requests.resize(static_cast<size_t>(o.num_prompts));
  for (PlannedRequest& request : dataset.requests) {
    request.prompt_ids = prefix;
    ids.value().append(inputs.draw(&lengths), &contents, &request.prompt_ids);
    request.prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
    request.max_tokens = outputs.draw(&lengths);
    request.ignore_eos = true;
  }
  return dataset;
}

Result<Dataset> prefix_dataset(const DatasetOptions& o) {
  ENGRAM_RETURN_IF_ERROR(check_prefix(o));
  const Result<PromptIds> ids = PromptIds::make(o);
  if (!ids.ok()) return ids.status();
  const int64_t used = std::min(o.prefix_repetition_num_prefixes, o.num_prompts);
  std::vector<std::vector<uint32_t>> prefixes;
  for (int64_t leaf = 0; leaf < used; ++leaf) prefixes.push_back(prefix_of(o, ids.value(), leaf));
  Random contents = random_of(o, Stream::kIds);
  Dataset dataset;
  dataset.requests.resize(static_cast<size_t>(o.num_prompts));
  for (size_t i = 0; i < dataset.requests.size(); ++i) {
    PlannedRequest& request = dataset.requests[i];
    request.prompt_ids = prefixes[i % prefixes.size()];
    ids.value().append(o.prefix_repetition_suffix_len, &contents, &request.prompt_ids);
    request.prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
    request.max_tokens = o.prefix_repetition_output_len;
    request.ignore_eos = true;
  }
  Random order = random_of(o, Stream::kOrder);
  if (!o.disable_shuffle) order.shuffle(dataset.requests);
  return dataset;
}

}  // namespace engram::tools::bench
