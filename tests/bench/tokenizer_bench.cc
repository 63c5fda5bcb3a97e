// Encoding and decoding speed of the demo tokenizer and of one with DeepSeek-V3's three splits, one
// thread: prose, code, CJK, and the inputs that are hard (a million spaces, one letter repeated).
// Also what loading takes. Run from the repository's root.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/tokenizer.h"
#include "engine/model/utf8.h"
#include "tests/bench/bench.h"

namespace engram::bench {
namespace {

using engine::Tokenizer;

struct Text {
  std::string name;
  std::string bytes;
};

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string repeated(const std::string& unit, size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    text += unit;
  }
  return text;
}

std::string random_cjk(size_t bytes) {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < bytes) {
    engine::append_utf8(0x4E00 + random() % 20000, text);
  }
  return text;
}

std::vector<Text> texts_of(size_t bytes) {
  return {
      {"prose", repeated(read_text("configs/demo/README.md"), bytes)},
      {"code", repeated(read_text("engine/model/tokenizer_spec.cc"), bytes)},
      {"cjk", random_cjk(bytes)},
      {"spaces", std::string(bytes, ' ')},
      {"one-letter", std::string(bytes, 'a')},
  };
}

uint64_t sum_of(const std::vector<int32_t>& ids) {
  uint64_t sum = ids.size();
  for (const int32_t id : ids) {
    sum = sum * 31 + static_cast<uint64_t>(id);
  }
  return sum;
}

void add_cases(
    Suite& suite, const std::string& name, const Tokenizer& tokenizer, const Text& text) {
  auto ids = std::make_shared<std::vector<int32_t>>(tokenizer.encode(text.bytes, false));
  const int64_t bytes = static_cast<int64_t>(text.bytes.size());
  suite.add(
      {.name = "encode " + name + " " + text.name,
       .bytes = bytes,
       .run = [&tokenizer, &text, ids] { *ids = tokenizer.encode(text.bytes, false); },
       .hash = [ids] { return sum_of(*ids); }});
  suite.add(
      {.name = "decode " + name + " " + text.name,
       .bytes = bytes,
       .run = [&tokenizer, ids] { (void)tokenizer.decode(*ids, false); },
       .hash = [ids] { return sum_of(*ids); }});
}

int run(const Options& options) {
  Suite suite(options);
  const std::vector<Text> texts = texts_of(options.smoke ? 2000 : 1000000);
  std::vector<std::pair<std::string, std::string>> files = {
      {"demo", read_text("configs/demo/tokenizer.json")},
      {"deepseek3", read_text("tests/golden/tokenizer/deepseek3.json")}};
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const auto& [name, json] : files) {
    memory::Result<std::unique_ptr<Tokenizer>> parsed = engine::parse_tokenizer(json, "");
    if (!parsed.ok()) {
      std::fprintf(stderr, "%s\n", parsed.status().to_string().c_str());
      return 1;
    }
    tokenizers.push_back(std::move(parsed).value());
    suite.add(
        {.name = "load " + name,
         .bytes = static_cast<int64_t>(json.size()),
         .run = [&json_text = json] { (void)engine::parse_tokenizer(json_text, ""); }});
    for (const Text& text : texts) {
      add_cases(suite, name, *tokenizers.back(), text);
    }
  }
  return suite.run();
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(engram::bench::parse_options(argc, argv));
}
