// Datasets read from files: what they mean, what a bad or cut file says, and that reading in pieces
// changes nothing.
#include <algorithm>
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/support/temp_directory.h"
#include "tools/bench/dataset.h"
#include "tools/bench/record_file.h"

namespace engram::tools::bench {
namespace {

using memory::Code;

// One token a word.
memory::Result<int64_t> count_words(const std::string& text) {
  int64_t words = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ' ' && (i == 0 || text[i - 1] == ' ')) ++words;
  }
  return words;
}

struct Files {
  tests::TempDirectory directory;
  DatasetOptions options(const std::string& name, const std::string& text) {
    directory.write("data", text);
    DatasetOptions o;
    o.name = name;
    o.path = directory.file("data");
    o.num_prompts = 100;
    o.vocab_size = 1000;
    o.disable_shuffle = true;
    o.no_oversample = true;
    return o;
  }
  memory::Result<Dataset> load(const std::string& name, const std::string& text) {
    return load_dataset(options(name, text), count_words);
  }
  // Without the directory's name.
  std::string refusal(const std::string& name, const std::string& text) {
    const memory::Result<Dataset> dataset = load(name, text);
    REQUIRE_FALSE(dataset.ok());
    REQUIRE(dataset.status().code() == Code::kInvalidArgument);
    const std::string& message = dataset.status().message();
    REQUIRE(message.find(directory.path() + "/") == 0);
    return message.substr(directory.path().size() + 1);
  }
};

std::string prompt_line(const std::string& prompt) {
  std::string line = "{\"prompt\": \"";
  line += prompt;
  line += "\"}\n";
  return line;
}

std::string name_of(int number) {
  std::string name = "p";
  name += std::to_string(number);
  return name;
}

TEST_CASE("custom lines: texts, ids and lengths") {
  Files files;
  const std::string text =
      "{\"prompt\": \"one two three\"}\n\n"
      "{\"prompt_ids\": [5, 6], \"output_tokens\": 9, \"other\": {}}\r\n"
      "{\"prompt\": \"four\", \"output_tokens\": 1}";
  DatasetOptions o = files.options("custom", text);
  o.custom_output_len = 77;
  const memory::Result<Dataset> dataset = load_dataset(o, count_words);
  REQUIRE(dataset.ok());
  const std::vector<PlannedRequest>& r = dataset.value().requests;
  REQUIRE(r.size() == 3);
  REQUIRE(r[0].prompt_text == "one two three");
  REQUIRE(r[0].prompt_tokens == 3);
  REQUIRE(r[0].max_tokens == 77);
  REQUIRE_FALSE(r[0].ignore_eos);
  REQUIRE(r[1].prompt_ids == std::vector<uint32_t>{5, 6});
  REQUIRE(r[1].prompt_tokens == 2);
  REQUIRE(r[1].max_tokens == 9);
  REQUIRE(r[2].max_tokens == 1);
  // Nobody to count: the server does.
  const memory::Result<Dataset> uncounted = load_dataset(o, {});
  REQUIRE(uncounted.value().requests[0].prompt_tokens == 0);
  o.ignore_eos = true;
  REQUIRE(load_dataset(o, {}).value().requests[0].ignore_eos);
}

TEST_CASE("few lines are repeated in order, many are drawn by the seed") {
  Files files;
  std::string text;
  for (int i = 0; i < 10; ++i) text += prompt_line(name_of(i));
  DatasetOptions o = files.options("custom", text);
  REQUIRE(load_dataset(o, {}).value().requests.size() == 10);
  o.no_oversample = false;
  o.num_prompts = 25;
  const std::vector<PlannedRequest> repeated = load_dataset(o, {}).value().requests;
  REQUIRE(repeated.size() == 25);
  for (size_t i = 0; i < 25; ++i) {
    REQUIRE(repeated[i].prompt_text == name_of(static_cast<int>(i % 10)));
  }
  o.disable_shuffle = false;
  o.num_prompts = 5;
  std::set<std::vector<std::string>> orders;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    o.seed = seed;
    std::vector<std::string> order;
    const std::vector<PlannedRequest> requests = load_dataset(o, {}).value().requests;
    for (const PlannedRequest& r : requests) order.push_back(r.prompt_text);
    REQUIRE(std::set<std::string>(order.begin(), order.end()).size() == 5);
    orders.insert(order);
  }
  REQUIRE(orders.size() > 1);
}

TEST_CASE("bad custom lines are named with their line") {
  Files files;
  const std::string good = "{\"prompt\": \"a\"}\n";
  REQUIRE(
      files.refusal("custom", good + "{\"prompt\": 5}\n") ==
      "data:2: prompt is 5, expected a string");
  REQUIRE(files.refusal("custom", good + "\n{}\n") == "data:3: prompt is missing");
  REQUIRE(files.refusal("custom", "[1]\n") == "data:1: expected a JSON object, found [1]");
  REQUIRE(
      files.refusal("custom", good + good + "nonsense\n") == "data:3: not valid JSON at byte 2");
  REQUIRE(
      files.refusal("custom", good + "{\"prompt\": \"a\", \"prompt\": \"b\"}\n") ==
      "data:2: duplicate key \"prompt\"");
  REQUIRE(
      files.refusal("custom", "{\"prompt\": \"a\", \"output_tokens\": 0}\n") ==
      "data:1: output_tokens is 0, expected a whole number from 1 to 16777216");
  REQUIRE(
      files.refusal("custom", "{\"prompt\": \"\"}\n") == "data:1: prompt is \"\", expected text");
  REQUIRE(
      files.refusal("custom", "{\"prompt_ids\": []}\n") ==
      "data:1: prompt_ids is [], expected at least one id");
  REQUIRE(
      files.refusal("custom", "{\"prompt_ids\": [-1]}\n").find("data:1: prompt_ids is [-1]") == 0);
  REQUIRE(
      files.refusal("custom", "{\"prompt_ids\": [1], \"prompt\": \"a\"}\n") ==
      "data:1: prompt is \"a\", expected nothing beside prompt_ids");
  REQUIRE(
      files.refusal("custom", "") ==
      "data: expected requests, found none that could be used (0 were left out)");
  REQUIRE(files.refusal("custom", " \n\n").find("data: expected requests") == 0);
}

TEST_CASE("a JSONL file that is cut within its last line says so") {
  Files files;
  const std::string text = "{\"prompt\": \"a b\"}\n{\"prompt\": \"c d\"}";
  for (size_t cut = 19; cut < text.size(); ++cut) {
    CAPTURE(cut);
    const std::string message = files.refusal("custom", text.substr(0, cut));
    REQUIRE(message.find("data:2: not valid JSON") == 0);
    REQUIRE(message.find("(the file's last line; was it cut off?)") != std::string::npos);
  }
  REQUIRE(files.load("custom", text).value().requests.size() == 2);
}

TEST_CASE("files that cannot be read are errors of their own") {
  Files files;
  DatasetOptions o = files.options("custom", "");
  o.path = files.directory.file("missing");
  REQUIRE(load_dataset(o, {}).status().code() == Code::kNotFound);
  o.path = files.directory.path();
  REQUIRE(
      load_dataset(o, {}).status().message().find("is not a regular file") != std::string::npos);
}

std::string turns(const std::string& prompt, const std::string& answer) {
  return "{\"id\": \"x\", \"conversations\": [{\"from\": \"human\", \"value\": \"" + prompt +
         "\"}, {\"from\": \"gpt\", \"value\": \"" + answer + "\"}]}";
}

std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += i == 0 ? "w" : " w";
  return text;
}

TEST_CASE("sharegpt: two turns, within the limits") {
  Files files;
  const std::string text = "[\n  " + turns(words(4), words(6)) + ",\n" + turns(words(3), words(6)) +
                           ",\n" + turns(words(9), words(3)) + ",\n" +
                           turns(words(1025), words(5)) + "," + turns(words(1024), words(1024)) +
                           "," + turns(words(1024), words(1025)) + ", {\"conversations\": []}, " +
                           "{\"conversations\": [{\"value\": \"a b c d e\"}]}, " +
                           turns("a {\\\"] b \\\\", words(8)) + "]\n";
  const memory::Result<Dataset> dataset = files.load("sharegpt", text);
  INFO(dataset.status().message());
  REQUIRE(dataset.ok());
  const std::vector<PlannedRequest>& r = dataset.value().requests;
  REQUIRE(r.size() == 3);
  REQUIRE(dataset.value().skipped == 6);
  REQUIRE(r[0].prompt_tokens == 4);
  REQUIRE(r[0].max_tokens == 6);
  REQUIRE(r[1].prompt_tokens == 1024);
  REQUIRE(r[1].max_tokens == 1024);
  REQUIRE(r[2].prompt_text == "a {\"] b \\");
  // A length of one's own needs no answer to be counted.
  DatasetOptions o = files.options("sharegpt", text);
  o.sharegpt_output_len = 50;
  REQUIRE(load_dataset(o, count_words).value().requests.size() == 5);
  REQUIRE(load_dataset(o, {}).status().message().find("expected a tokenizer") != std::string::npos);
  const CountTokens fails = [](const std::string&) -> memory::Result<int64_t> {
    return memory::unavailable("the server is away");
  };
  REQUIRE(load_dataset(o, fails).status().message() == "the server is away");
}

TEST_CASE("a sharegpt file that is cut anywhere is an error") {
  Files files;
  const std::string text =
      "[" + turns("a b c d", "e f g h") + ",\n " + turns("i j k l", "m n o p") + "]";
  REQUIRE(files.load("sharegpt", text + "\n ").value().requests.size() == 2);
  for (size_t cut = 0; cut < text.size(); ++cut) {
    CAPTURE(cut);
    const std::string message = files.refusal("sharegpt", text.substr(0, cut));
    REQUIRE(message.find("was it cut off?") != std::string::npos);
    if (cut > 1 && cut < 90) REQUIRE(message.find("begins at line 1") != std::string::npos);
  }
  REQUIRE(files.refusal("sharegpt", "{}") == "data:1: expected a JSON array of objects, found {");
  REQUIRE(files.refusal("sharegpt", "[\n5]") == "data:2: expected an object, found 5");
  REQUIRE(
      files.refusal("sharegpt", "[{}\n{}]") ==
      "data:2: expected a comma or the end of the array, found {");
  REQUIRE(files.refusal("sharegpt", "[{},]") == "data:1: expected an object, found ]");
  REQUIRE(
      files.refusal("sharegpt", "[{}] []") == "data:1: expected nothing behind the array, found [");
  REQUIRE(files.refusal("sharegpt", "[]").find("data: expected requests, found none") == 0);
  REQUIRE(files.refusal("sharegpt", "[\n{\"a\": 1}]") == "data:2: conversations is missing");
  REQUIRE(
      files.refusal("sharegpt", "[{\"conversations\": 3}]") ==
      "data:1: conversations is 3, expected a list of turns");
  REQUIRE(
      files.refusal("sharegpt", "[{\"conversations\": [{\"value\": 3}, {}]}]") ==
      "data:1: conversations[0].value is 3, expected a string");
  REQUIRE(
      files.refusal("sharegpt", "[{\"conversations\": [1, 2]}]") ==
      "data:1: conversations[0] is 1, expected an object");
}

TEST_CASE("pieces of any size give the same places of the same objects") {
  const std::string text =
      " [ " + turns("a \\\"]}", "b") + " ,\n\n{\"x\": [[{}], \"}\"]}\n , {} ] \n";
  ArrayScanner whole("name");
  REQUIRE(whole.feed(text).ok());
  REQUIRE(whole.finish().ok());
  REQUIRE(whole.places().size() == 3);
  REQUIRE(whole.places()[1].line == 3);
  REQUIRE(
      text.substr(
          static_cast<size_t>(whole.places()[1].offset),
          static_cast<size_t>(whole.places()[1].bytes)) == "{\"x\": [[{}], \"}\"]}");
  for (size_t piece = 1; piece < 9; ++piece) {
    CAPTURE(piece);
    ArrayScanner scanner("name");
    for (size_t at = 0; at < text.size(); at += piece) {
      REQUIRE(scanner.feed(std::string_view(text).substr(at, piece)).ok());
    }
    REQUIRE(scanner.finish().ok());
    for (size_t i = 0; i < 3; ++i) {
      REQUIRE(scanner.places()[i].offset == whole.places()[i].offset);
      REQUIRE(scanner.places()[i].bytes == whole.places()[i].bytes);
      REQUIRE(scanner.places()[i].line == whole.places()[i].line);
    }
  }
}

TEST_CASE("lines longer than a piece of the file are put together") {
  Files files;
  std::string text;
  for (int i = 0; i < 5; ++i) {
    text += prompt_line(std::string(700'000, static_cast<char>('a' + i)));
  }
  const std::vector<PlannedRequest> r = files.load("custom", text).value().requests;
  REQUIRE(r.size() == 5);
  for (size_t i = 0; i < 5; ++i) {
    REQUIRE(r[i].prompt_text == std::string(700'000, static_cast<char>('a' + i)));
  }
}

TEST_CASE("Mooncake: equal hash ids are equal tokens, the last block may end early") {
  Files files;
  const std::string text =
      "{\"timestamp\": 500, \"input_length\": 1100, \"output_length\": 7, \"hash_ids\": [1, 2, "
      "3]}\n"
      "{\"timestamp\": 1500.5, \"input_length\": 1300, \"output_length\": 8, \"hash_ids\": [1, 2, "
      "4]}\n"
      "{\"timestamp\": 2000, \"input_length\": 1536, \"output_length\": 9, \"hash_ids\": [5, 2, "
      "3]}\n"
      "{\"timestamp\": 2000, \"input_length\": 600, \"output_length\": 1}\n";
  DatasetOptions o = files.options("trace", text);
  const memory::Result<Dataset> dataset = load_dataset(o, {});
  INFO(dataset.status().message());
  REQUIRE(dataset.ok());
  REQUIRE(dataset.value().timed);
  const std::vector<PlannedRequest>& r = dataset.value().requests;
  REQUIRE(r.size() == 4);
  REQUIRE(r[0].at_s == 0.5);
  REQUIRE(r[1].at_s == 1.5005);
  REQUIRE(r[0].prompt_ids.size() == 1100);
  REQUIRE(r[1].prompt_ids.size() == 1300);
  REQUIRE(r[2].prompt_ids.size() == 1536);
  REQUIRE(r[3].prompt_ids.size() == 600);
  REQUIRE(r[1].max_tokens == 8);
  REQUIRE(r[1].ignore_eos);
  const auto block = [&](size_t request, size_t index, size_t bytes) {
    const auto begin = r[request].prompt_ids.begin() + static_cast<int64_t>(512 * index);
    return std::vector<uint32_t>(begin, begin + static_cast<int64_t>(bytes));
  };
  REQUIRE(block(0, 0, 512) == block(1, 0, 512));
  REQUIRE(block(0, 1, 512) == block(1, 1, 512));
  REQUIRE(block(0, 1, 512) == block(2, 1, 512));
  REQUIRE(block(0, 2, 76) == block(2, 2, 76));
  REQUIRE(block(0, 2, 76) != block(1, 2, 76));
  REQUIRE(block(0, 0, 512) != block(2, 0, 512));
  REQUIRE(block(3, 0, 512) != block(0, 0, 512));
  // Another seed, other tokens; the same sharing.
  o.seed = 1;
  REQUIRE(load_dataset(o, {}).value().requests[0].prompt_ids != r[0].prompt_ids);
  o.num_prompts = 2;
  REQUIRE(load_dataset(o, {}).value().requests.size() == 2);
  o.num_prompts = 0;
  REQUIRE(load_dataset(o, {}).value().requests.size() == 4);
  o.trace_max_tokens = 1107;
  REQUIRE(load_dataset(o, {}).value().requests.size() == 2);
  REQUIRE(load_dataset(o, {}).value().skipped == 2);
  o.trace_max_tokens = 10;
  REQUIRE(load_dataset(o, {}).status().message().find("(4 were left out)") != std::string::npos);
}

TEST_CASE("BurstGPT as JSONL: seconds, and failed answers are left out") {
  Files files;
  const std::string text =
      "{\"Timestamp\": 5, \"Model\": \"ChatGPT\", \"Request tokens\": 472, \"Response tokens\": "
      "18}\n"
      "{\"Timestamp\": 45.25, \"Model\": \"GPT-4\", \"Request tokens\": 10, \"Response tokens\": "
      "0}\n"
      "{\"Timestamp\": 118, \"Request tokens\": 3, \"Response tokens\": 276, \"Log Type\": "
      "\"x\"}\n";
  const memory::Result<Dataset> dataset = files.load("trace", text);
  REQUIRE(dataset.ok());
  REQUIRE(dataset.value().skipped == 1);
  REQUIRE(dataset.value().requests.size() == 2);
  REQUIRE(dataset.value().requests[1].at_s == 118);
  REQUIRE(dataset.value().requests[0].prompt_ids.size() == 472);
  REQUIRE(dataset.value().requests[1].max_tokens == 276);
}

TEST_CASE("bad trace lines are named with their line") {
  Files files;
  const std::string good = "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 1}\n";
  REQUIRE(
      files.refusal("trace", good + "{\"time\": 1}\n") ==
      "data:2: expected \"timestamp\" (Mooncake, ms) or \"Timestamp\" (BurstGPT, s), found "
      "{\"time\":1}");
  REQUIRE(
      files.refusal("trace", "{\"timestamp\": -1, \"input_length\": 5, \"output_length\": 1}\n") ==
      "data:1: timestamp is -1, expected a number from 0 to 1e+13");
  REQUIRE(
      files.refusal("trace", "{\"timestamp\": 0, \"output_length\": 1}\n") ==
      "data:1: input_length is missing");
  REQUIRE(
      files.refusal(
          "trace",
          "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 1, \"hash_ids\": [1, "
          "2]}\n") ==
      "data:1: hash_ids has 2 entries, expected at most 1 blocks of 512 for input_length 5 "
      "(--trace-block-tokens)");
  REQUIRE(
      files
          .refusal(
              "trace",
              "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 1, \"hash_ids\": "
              "\"a\"}\n")
          .find("data:1: hash_ids is \"a\", expected a list of whole numbers") == 0);
  REQUIRE(
      files.refusal("trace", good + "{\"timestamp\": 0, \"inp").find("was it cut off?") !=
      std::string::npos);
}

}  // namespace
}  // namespace engram::tools::bench
