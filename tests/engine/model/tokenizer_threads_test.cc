// One tokenizer, many threads: the same ids and texts as alone.
#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/model/tokenizer.h"
#include "tests/support/golden_text.h"

namespace engram::engine {
namespace {

constexpr int kThreads = 4;
constexpr size_t kCases = 600;

// The first texts of the goldens, from hexadecimal.
std::vector<std::string> read_cases() {
  std::vector<std::string> cases = tests::read_lines("tests/golden/tokenizer/cases.hex");
  cases.resize(kCases);
  for (std::string& text : cases) {
    std::string bytes;
    for (size_t i = 0; i < text.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
    }
    text = bytes;
  }
  return cases;
}

TEST_CASE("threads share a tokenizer", "[tokenizer]") {
  const std::vector<std::string> cases = read_cases();
  for (const std::string name : {"qwen", "deepseek3"}) {
    const std::string json = tests::read_text("tests/golden/tokenizer/" + name + ".json");
    const auto alone = parse_tokenizer(json, "");
    // A second one, whose lazily built parts the threads are the first to need.
    const auto shared = parse_tokenizer(json, "");
    REQUIRE(alone.ok());
    REQUIRE(shared.ok());
    std::vector<std::vector<int32_t>> expected;
    for (const std::string& text : cases) {
      expected.push_back(alone.value()->encode(text, true));
    }
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&] {
        for (size_t i = 0; i < cases.size(); ++i) {
          const std::vector<int32_t> ids = shared.value()->encode(cases[i], true);
          const bool same = ids == expected[i] &&
                            shared.value()->decode(ids, true) == alone.value()->decode(ids, true);
          wrong += same ? 0 : 1;
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    CAPTURE(name);
    CHECK(wrong == 0);
  }
}

}  // namespace
}  // namespace engram::engine
