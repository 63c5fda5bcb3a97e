#include "tools/bench/dataset.h"

#include <algorithm>

#include "tools/bench/dataset_sources.h"

namespace engram::tools::bench {
namespace {

using memory::invalid_argument;
using memory::Result;
using memory::Status;

Status check_shared(const DatasetOptions& options) {
  const bool trace = options.name == "trace";
  if (options.num_prompts < (trace ? 0 : 1)) {
    return invalid_argument(
        "--num-prompts: expected at least 1, found " + std::to_string(options.num_prompts));
  }
  const bool reads = trace || options.name == "custom" || options.name == "sharegpt";
  if (reads && options.path.empty()) {
    return invalid_argument("--dataset-path: expected the file of dataset " + options.name);
  }
  if (!reads && !options.path.empty()) {
    return invalid_argument(
        "--dataset-path: dataset " + options.name + " reads no file, found \"" + options.path +
        "\"");
  }
  return {};
}

Result<Dataset> load(const DatasetOptions& options, const CountTokens& count) {
  if (options.name == "random") return random_dataset(options);
  if (options.name == "prefix_repetition" || options.name == "prefix-tree") {
    return prefix_dataset(options);
  }
  if (options.name == "custom") return custom_dataset(options, count);
  if (options.name == "sharegpt") return sharegpt_dataset(options, count);
  if (options.name == "trace") return trace_dataset(options);
  return invalid_argument(
      "--dataset-name: expected random, prefix_repetition, prefix-tree, custom, sharegpt or trace, "
      "found \"" +
      options.name + "\"");
}

}  // namespace

Result<PromptIds> PromptIds::make(const DatasetOptions& options) {
  PromptIds ids;
  ids.vocab_size_ = options.vocab_size;
  if (!options.excluded_ids.empty()) {
    std::vector<uint32_t> excluded = options.excluded_ids;
    std::sort(excluded.begin(), excluded.end());
    for (uint32_t id = 0; id < options.vocab_size; ++id) {
      if (!std::binary_search(excluded.begin(), excluded.end(), id)) ids.allowed_.push_back(id);
    }
  }
  if (options.vocab_size == 0 || (!options.excluded_ids.empty() && ids.allowed_.empty())) {
    return invalid_argument(
        "dataset " + options.name + ": expected a vocabulary to draw prompts from, found " +
        std::to_string(options.vocab_size) + " ids of which " +
        std::to_string(options.excluded_ids.size()) + " are special");
  }
  return ids;
}

void PromptIds::append(int64_t count, Random* random, std::vector<uint32_t>* ids) const {
  ids->reserve(ids->size() + static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    ids->push_back(
        allowed_.empty() ? static_cast<uint32_t>(random->below(vocab_size_))
                         : allowed_[random->below(allowed_.size())]);
  }
}

Random random_of_item(const DatasetOptions& options, Stream stream, uint64_t item) {
  return Random(random_of(options, stream).bits(), item);
}

Result<Dataset> load_dataset(const DatasetOptions& options, const CountTokens& count) {
  ENGRAM_RETURN_IF_ERROR(check_shared(options));
  return load(options, count);
}

}  // namespace engram::tools::bench
