// Merged, split and put together again, nothing is lost, doubled or too large.
#include "server/reply_builder.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace engram::server {
namespace {

engine::Delta delta_of(int choice, const std::string& text, std::vector<int32_t> ids) {
  engine::Delta delta;
  delta.choice = choice;
  delta.text = text;
  delta.token_ids = std::move(ids);
  return delta;
}

engine::PositionLogprobs position_of(int32_t id, int top) {
  engine::PositionLogprobs position = {id, -0.5f * static_cast<float>(id), id % 7 + 1, {}};
  for (int k = 0; k < top; ++k) position.top.push_back({k, -static_cast<float>(k)});
  return position;
}

struct Whole {
  std::string text;
  std::vector<uint32_t> ids;
  std::vector<uint32_t> logprob_ids;
  int finished = 0;
};

void collect(const v1::CompleteResponse& message, std::map<uint32_t, Whole>* wholes) {
  for (const v1::Choice& choice : message.choices()) {
    Whole& whole = (*wholes)[choice.index()];
    CHECK(whole.finished == 0);
    whole.text += choice.text();
    whole.ids.insert(whole.ids.end(), choice.token_ids().begin(), choice.token_ids().end());
    const auto& logprobs = choice.logprobs().token_ids();
    whole.logprob_ids.insert(whole.logprob_ids.end(), logprobs.begin(), logprobs.end());
    if (choice.has_finish_reason()) ++whole.finished;
  }
}

}  // namespace

TEST_CASE("replies: deltas of a choice merge into one message", "[replies]") {
  ReplyBuilder replies({}, nullptr);
  replies.begin("id", "model", 7);
  replies.add(0, delta_of(0, "a", {1}));
  replies.add(0, delta_of(0, "bc", {2, 3}));
  replies.add(1, delta_of(1, "x", {9}));
  v1::CompleteResponse message;
  replies.take(&message);
  CHECK(replies.empty());
  CHECK(replies.bytes() == 0);
  CHECK(message.id() == "id");
  CHECK(message.created() == 7);
  REQUIRE(message.choices_size() == 2);
  CHECK(message.choices(0).text() == "abc");
  CHECK(message.choices(0).token_ids_size() == 3);
  CHECK(message.choices(1).text() == "x");
  // The next message has no heading, and nothing of the last one.
  replies.add(0, delta_of(0, "d", {4}));
  replies.take(&message);
  CHECK(!message.has_id());
  REQUIRE(message.choices_size() == 1);
  CHECK(message.choices(0).text() == "d");
  CHECK(message.choices(0).token_ids_size() == 1);
}

TEST_CASE("replies: any order of adding and taking loses nothing", "[replies]") {
  const uint32_t seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 50; ++round) {
    ReplyBuilder replies({}, nullptr);
    std::map<uint32_t, Whole> sent;
    std::map<uint32_t, Whole> wanted;
    const int choices = 1 + static_cast<int>(random() % 5);
    v1::CompleteResponse message;
    for (int step = 0; step < 200; ++step) {
      const int choice = static_cast<int>(random() % static_cast<uint32_t>(choices));
      engine::Delta delta = delta_of(choice, std::string(random() % 4, 'x'), {});
      for (uint32_t k = random() % 3; k > 0; --k) {
        delta.token_ids.push_back(step);
        delta.logprobs.push_back(position_of(step, 2));
      }
      Whole& whole = wanted[static_cast<uint32_t>(choice)];
      whole.text += delta.text;
      whole.ids.insert(whole.ids.end(), delta.token_ids.begin(), delta.token_ids.end());
      replies.add(choice, std::move(delta));
      if (random() % 4 == 0) {
        replies.take(&message);
        collect(message, &sent);
      }
    }
    for (const auto& [choice, whole] : wanted) {
      replies.finish(static_cast<int>(choice), {engine::FinishReason::kLength, {}, {}});
    }
    while (!replies.empty()) {
      replies.take(&message);
      collect(message, &sent);
    }
    for (const auto& [choice, whole] : wanted) {
      CAPTURE(round, choice);
      CHECK(sent[choice].text == whole.text);
      CHECK(sent[choice].ids == whole.ids);
      CHECK(sent[choice].logprob_ids == whole.ids);
      CHECK(sent[choice].finished == 1);
    }
  }
}

TEST_CASE("replies: no message is larger than clients accept", "[replies]") {
  ReplyBuilder replies({}, nullptr);
  engine::Delta delta;
  for (int32_t i = 0; i < 60000; ++i) delta.prompt_logprobs.push_back(position_of(i, 20));
  replies.add(0, std::move(delta));
  replies.add(0, delta_of(0, std::string(100, 'x'), {1}));
  int messages = 0;
  int positions = 0;
  v1::CompleteResponse message;
  while (!replies.empty()) {
    replies.take(&message);
    ++messages;
    CHECK(message.ByteSizeLong() < (3u << 20));
    for (const v1::Choice& choice : message.choices()) {
      positions += choice.prompt_logprobs().token_ids_size();
      CHECK(choice.prompt_logprobs().top_size() == choice.prompt_logprobs().token_ids_size());
    }
  }
  CHECK(messages > 4);
  CHECK(positions == 60000);
}

TEST_CASE("replies: the unary answer is the sum of the stream's messages", "[replies]") {
  ReplyBuilder replies({}, nullptr);
  replies.begin("id", "model", 7);
  for (int step = 0; step < 300; ++step) {
    for (int choice = 2; choice >= 0; --choice) {
      engine::Delta delta =
          delta_of(choice, std::string(1000, static_cast<char>('a' + choice)), {});
      delta.token_ids = {step};
      delta.logprobs = {position_of(step, 3)};
      replies.add(choice, std::move(delta));
    }
  }
  for (int choice = 0; choice < 3; ++choice) {
    replies.finish(choice, {engine::FinishReason::kStop, choice, {}});
  }
  engine::Usage usage;
  usage.completion_tokens = 900;
  replies.set_usage(usage, true);
  v1::CompleteResponse whole;
  replies.take_all(&whole);
  CHECK(replies.empty());
  CHECK(whole.id() == "id");
  CHECK(whole.usage().completion_tokens() == 900);
  CHECK(whole.usage().has_ngram());
  REQUIRE(whole.choices_size() == 3);
  for (int choice = 0; choice < 3; ++choice) {
    const v1::Choice& one = whole.choices(choice);
    CHECK(one.index() == static_cast<uint32_t>(choice));
    CHECK(one.text() == std::string(300000, static_cast<char>('a' + choice)));
    REQUIRE(one.token_ids_size() == 300);
    CHECK(one.token_ids(299) == 299);
    CHECK(one.logprobs().top_size() == 300);
    CHECK(one.stop_token_id() == static_cast<uint32_t>(choice));
    CHECK(one.finish_reason() == v1::FINISH_REASON_STOP);
  }
}

TEST_CASE("replies: switches leave parts out", "[replies]") {
  const auto tokenizer = engine::make_byte_tokenizer(256);
  ReplyBuilder replies({.text = false, .token_ids = false, .token_bytes = true}, tokenizer.get());
  replies.add(0, delta_of(0, "hi", {'h', 0xc3}));
  v1::CompleteResponse message;
  replies.take(&message);
  CHECK(!message.choices(0).has_text());
  CHECK(message.choices(0).token_ids_size() == 0);
  REQUIRE(message.choices(0).token_bytes_size() == 2);
  CHECK(message.choices(0).token_bytes(1) == "\xc3");
}

}  // namespace engram::server
