// Datasets made from a seed: exact lengths, ranges, shared prefixes, and what cannot be asked for.
#include "tools/bench/dataset.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace engram::tools::bench {
namespace {

DatasetOptions options_of(const std::string& name, int64_t prompts) {
  DatasetOptions options;
  options.name = name;
  options.num_prompts = prompts;
  options.vocab_size = 5000;
  return options;
}

std::vector<PlannedRequest> requests_of(const DatasetOptions& options) {
  memory::Result<Dataset> dataset = load_dataset(options, {});
  INFO(dataset.status().message());
  REQUIRE(dataset.ok());
  REQUIRE_FALSE(dataset.value().timed);
  return std::move(dataset).value().requests;
}

std::string refusal_of(const DatasetOptions& options) {
  const memory::Result<Dataset> dataset = load_dataset(options, {});
  REQUIRE_FALSE(dataset.ok());
  REQUIRE(dataset.status().code() == memory::Code::kInvalidArgument);
  return dataset.status().message();
}

std::vector<uint32_t> slice(const PlannedRequest& request, size_t begin, size_t end) {
  return {
      request.prompt_ids.begin() + static_cast<int64_t>(begin),
      request.prompt_ids.begin() + static_cast<int64_t>(end)};
}

TEST_CASE("random prompts have the exact length and differ") {
  DatasetOptions options = options_of("random", 50);
  options.random_input_len = 37;
  options.random_output_len = 5;
  std::set<std::vector<uint32_t>> seen;
  std::set<uint32_t> ids;
  for (const PlannedRequest& r : requests_of(options)) {
    REQUIRE(r.prompt_ids.size() == 37);
    REQUIRE(r.prompt_tokens == 37);
    REQUIRE(r.prompt_text.empty());
    REQUIRE(r.max_tokens == 5);
    REQUIRE(r.ignore_eos);
    for (const uint32_t id : r.prompt_ids) REQUIRE(id < 5000);
    seen.insert(r.prompt_ids);
    ids.insert(r.prompt_ids.begin(), r.prompt_ids.end());
  }
  REQUIRE(seen.size() == 50);
  REQUIRE(ids.size() > 1000);  // of 1850 draws
}

TEST_CASE("range ratio: every length of the range and no other, prefix on top") {
  DatasetOptions options = options_of("random", 2000);
  options.random_input_len = 10;
  options.random_output_len = 4;
  options.random_prefix_len = 100;
  options.random_range_ratio = 0.25;
  std::set<size_t> inputs;
  std::set<int64_t> outputs;
  const std::vector<PlannedRequest> requests = requests_of(options);
  for (const PlannedRequest& r : requests) {
    inputs.insert(r.prompt_ids.size() - 100);
    outputs.insert(r.max_tokens);
    REQUIRE(slice(r, 0, 100) == slice(requests[0], 0, 100));
  }
  REQUIRE(inputs == std::set<size_t>{7, 8, 9, 10, 11, 12, 13});
  REQUIRE(outputs == std::set<int64_t>{3, 4, 5});
  REQUIRE(slice(requests[0], 100, 107) != slice(requests[1], 100, 107));
}

TEST_CASE("special ids are never drawn, all others are") {
  DatasetOptions options = options_of("random", 20);
  options.vocab_size = 10;
  options.excluded_ids = {9, 0, 4};
  std::set<uint32_t> ids;
  for (const PlannedRequest& r : requests_of(options)) {
    ids.insert(r.prompt_ids.begin(), r.prompt_ids.end());
  }
  REQUIRE(ids == std::set<uint32_t>{1, 2, 3, 5, 6, 7, 8});
}

TEST_CASE("a seed is a dataset") {
  for (const char* name : {"random", "prefix_repetition"}) {
    DatasetOptions options = options_of(name, 20);
    const std::vector<PlannedRequest> first = requests_of(options);
    const std::vector<PlannedRequest> again = requests_of(options);
    options.seed = 1;
    const std::vector<PlannedRequest> other = requests_of(options);
    for (size_t i = 0; i < 20; ++i) {
      REQUIRE(first[i].prompt_ids == again[i].prompt_ids);
      REQUIRE(first[i].prompt_ids != other[i].prompt_ids);
    }
  }
}

TEST_CASE("prefixes are used evenly, in drawn order, with a suffix of one's own") {
  DatasetOptions options = options_of("prefix_repetition", 50);
  options.prefix_repetition_prefix_len = 20;
  options.prefix_repetition_suffix_len = 7;
  options.prefix_repetition_num_prefixes = 5;
  options.prefix_repetition_output_len = 3;
  std::map<std::vector<uint32_t>, int> prefixes;
  std::set<std::vector<uint32_t>> suffixes;
  std::vector<std::vector<uint32_t>> order;
  for (const PlannedRequest& r : requests_of(options)) {
    REQUIRE(r.prompt_ids.size() == 27);
    REQUIRE(r.max_tokens == 3);
    ++prefixes[slice(r, 0, 20)];
    suffixes.insert(slice(r, 20, 27));
    order.push_back(slice(r, 0, 20));
  }
  REQUIRE(prefixes.size() == 5);
  for (const auto& [prefix, count] : prefixes) REQUIRE(count == 10);
  REQUIRE(suffixes.size() == 50);
  options.disable_shuffle = true;
  const std::vector<PlannedRequest> in_turn = requests_of(options);
  bool same_order = true;
  for (size_t i = 0; i < 50; ++i) {
    REQUIRE(slice(in_turn[i], 0, 20) == slice(in_turn[i % 5], 0, 20));
    same_order = same_order && slice(in_turn[i], 0, 20) == order[i];
  }
  REQUIRE_FALSE(same_order);
}

TEST_CASE("a tree of prefixes: neighbours share all but the last piece") {
  DatasetOptions options = options_of("prefix-tree", 8);
  options.disable_shuffle = true;
  options.prefix_repetition_prefix_len = 30;
  options.prefix_repetition_suffix_len = 0;
  options.prefix_repetition_num_prefixes = 8;
  options.prefix_tree_levels = 3;
  options.prefix_tree_branching = 2;
  const std::vector<PlannedRequest> r = requests_of(options);
  for (size_t i = 0; i < 8; ++i) {
    for (size_t k = 0; k < 8; ++k) {
      CAPTURE(i, k);
      REQUIRE((slice(r[i], 0, 10) == slice(r[k], 0, 10)) == (i / 4 == k / 4));
      REQUIRE((slice(r[i], 10, 20) == slice(r[k], 10, 20)) == (i / 2 == k / 2));
      REQUIRE((slice(r[i], 20, 30) == slice(r[k], 20, 30)) == (i == k));
    }
  }
}

TEST_CASE("flags that cannot be are refused by name") {
  DatasetOptions o = options_of("random", 1);
  o.name = "sonnet";
  REQUIRE(refusal_of(o).find("--dataset-name: expected random, ") == 0);
  REQUIRE(refusal_of(o).find("found \"sonnet\"") != std::string::npos);
  o = options_of("random", 0);
  REQUIRE(refusal_of(o) == "--num-prompts: expected at least 1, found 0");
  o = options_of("random", 1);
  o.path = "x.jsonl";
  REQUIRE(refusal_of(o) == "--dataset-path: dataset random reads no file, found \"x.jsonl\"");
  o = options_of("custom", 1);
  REQUIRE(refusal_of(o) == "--dataset-path: expected the file of dataset custom");
  o = options_of("random", 1);
  o.random_input_len = 0;
  REQUIRE(refusal_of(o) == "--random-input-len: expected from 1 to 16777216, found 0");
  o = options_of("random", 1);
  o.random_range_ratio = 1;
  REQUIRE(refusal_of(o).find("--random-range-ratio: expected from 0 to less than 1") == 0);
  o = options_of("random", 1);
  o.vocab_size = 0;
  REQUIRE(refusal_of(o).find("dataset random: expected a vocabulary") == 0);
  o = options_of("random", 1);
  o.vocab_size = 2;
  o.excluded_ids = {0, 1};
  REQUIRE(refusal_of(o).find("found 2 ids of which 2 are special") != std::string::npos);
  o = options_of("prefix_repetition", 1);
  o.prefix_tree_levels = 257;
  REQUIRE(
      refusal_of(o) ==
      "--prefix-tree-levels: expected from 1 to the 256 tokens of a prefix, found 257");
  o.prefix_tree_levels = 1;
  o.prefix_repetition_num_prefixes = 0;
  REQUIRE(refusal_of(o).find("--prefix-repetition-num-prefixes: expected from 1") == 0);
}

}  // namespace
}  // namespace engram::tools::bench
