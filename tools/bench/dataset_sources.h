// The datasets by themselves: load_dataset() has checked the options that all share and shuffles.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/dataset.h"
#include "tools/bench/random.h"

namespace engram::tools::bench {

// Draws ids that a prompt may hold.
class PromptIds {
 public:
  // INVALID_ARGUMENT where no id is left.
  static memory::Result<PromptIds> make(const DatasetOptions& options);

  // Appends `count` ids drawn by `random`.
  void append(int64_t count, Random* random, std::vector<uint32_t>* ids) const;

 private:
  uint32_t vocab_size_ = 0;
  std::vector<uint32_t> allowed_;  // empty: all
};

// Which numbers a dataset draws from; arrivals have stream 0.
enum class Stream : uint64_t { kLengths = 1, kIds = 2, kPrefixes = 3, kOrder = 4, kBlocks = 5 };
inline Random random_of(const DatasetOptions& options, Stream stream) {
  return Random(options.seed, static_cast<uint64_t>(stream));
}

// The generator of one of many things (a block, a piece of a prefix) that are the same wherever
// they occur.
Random random_of_item(const DatasetOptions& options, Stream stream, uint64_t item);

memory::Result<Dataset> random_dataset(const DatasetOptions& options);
memory::Result<Dataset> prefix_dataset(const DatasetOptions& options);
memory::Result<Dataset> custom_dataset(const DatasetOptions& options, const CountTokens& count);
memory::Result<Dataset> sharegpt_dataset(const DatasetOptions& options, const CountTokens& count);
memory::Result<Dataset> trace_dataset(const DatasetOptions& options);

}  // namespace engram::tools::bench
