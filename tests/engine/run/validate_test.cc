// Every field of a request at its bounds, just past them, and at values nobody means.
#include "engine/run/validate.h"

#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace engram::engine {
namespace {

using memory::Code;

class NullSink : public Sink {
 public:
  void on_delta(Delta) override {}
  void on_finish(int, Finish) override {}
  void on_done(const memory::Status&, const Usage&) override {}
};

RequestLimits limits() {
  return {.vocab_size = 100, .max_model_len = 64, .kv_pages = 4, .page_tokens = 16};
}

Request valid() {
  Request r;
  r.id = std::string("r");
  r.prompt_ids = {1, 2, 3};
  r.sink = std::make_shared<NullSink>();
  return r;
}

struct Case {
  const char* names;  // what the message must name
  std::function<void(Request&)> change;
};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("validate: a plain request passes", "[validate]") {
  REQUIRE(validate_request(valid(), limits()).ok());
}

TEST_CASE("validate: refused fields are named", "[validate]") {
  const std::vector<Case> cases = {
      {"request_id", [](Request& r) { r.id.clear(); }},
      {"request_id", [](Request& r) { r.id.assign(kMaxIdBytes + 1, 'x'); }},
      {"cache_salt", [](Request& r) { r.cache_salt.assign(kMaxSaltBytes + 1, 'x'); }},
      {"prompt", [](Request& r) { r.prompt_ids.clear(); }},
      {"prompt[1]", [](Request& r) { r.prompt_ids[1] = -1; }},
      {"prompt[2]", [](Request& r) { r.prompt_ids[2] = 100; }},
      {"prompt[2]", [](Request& r) { r.prompt_ids[2] = std::numeric_limits<int32_t>::max(); }},
      {"64", [](Request& r) { r.prompt_ids.assign(64, 1); }},
      {"--max-model-len", [](Request& r) { r.prompt_ids.assign(1000, 1); }},
      {"temperature", [](Request& r) { r.sampling.temperature = -0.1f; }},
      {"temperature", [](Request& r) { r.sampling.temperature = kNan; }},
      {"temperature", [](Request& r) { r.sampling.temperature = kInf; }},
      {"top_p", [](Request& r) { r.sampling.top_p = 0.f; }},
      {"top_p", [](Request& r) { r.sampling.top_p = 1.01f; }},
      {"top_p", [](Request& r) { r.sampling.top_p = kNan; }},
      {"min_p", [](Request& r) { r.sampling.min_p = -0.5f; }},
      {"min_p", [](Request& r) { r.sampling.min_p = kNan; }},
      {"top_k", [](Request& r) { r.sampling.top_k = -2; }},
      {"repetition_penalty", [](Request& r) { r.sampling.repetition_penalty = 0.f; }},
      {"repetition_penalty", [](Request& r) { r.sampling.repetition_penalty = kInf; }},
      {"presence_penalty", [](Request& r) { r.sampling.presence_penalty = 2.5f; }},
      {"frequency_penalty", [](Request& r) { r.sampling.frequency_penalty = kNan; }},
      {"n must", [](Request& r) { r.sampling.n = 0; }},
      {"n must", [](Request& r) { r.sampling.n = kMaxChoices + 1; }},
      {"n must", [](Request& r) { r.sampling.n = std::numeric_limits<int>::max(); }},
      {"logprobs", [](Request& r) { r.sampling.logprobs = kMaxLogprobs + 1; }},
      {"logprobs", [](Request& r) { r.sampling.logprobs = -2; }},
      {"prompt_logprobs", [](Request& r) { r.sampling.prompt_logprobs = kMaxLogprobs + 1; }},
      {"max_tokens", [](Request& r) { r.sampling.max_tokens = 0; }},
      {"max_tokens", [](Request& r) { r.sampling.max_tokens = -2; }},
      {"min_tokens", [](Request& r) { r.sampling.min_tokens = -1; }},
      {"min_tokens",
       [](Request& r) {
         r.sampling.max_tokens = 3;
         r.sampling.min_tokens = 4;
       }},
      {"logit_bias[0]",
       [](Request& r) {
         r.sampling.logit_bias = {{100, 1.f}};
       }},
      {"logit_bias",
       [](Request& r) {
         r.sampling.logit_bias = {{1, kNan}};
       }},
      {"logit_bias",
       [](Request& r) {
         r.sampling.logit_bias = {{1, kInf}};
       }},
      {"logit_bias",
       [](Request& r) {
         r.sampling.logit_bias.assign(kMaxLogitBias + 1, {1, 0.f});
       }},
      {"stop_token_ids[0]", [](Request& r) { r.sampling.stop_token_ids = {-1}; }},
      {"stop_token_ids",
       [](Request& r) { r.sampling.stop_token_ids.assign(kMaxStopTokenIds + 1, 1); }},
      {"stop[0]", [](Request& r) { r.sampling.stop = {""}; }},
      {"stop[1]",
       [](Request& r) {
         r.sampling.stop = {"a", std::string(kMaxStopBytes + 1, 'a')};
       }},
      {"stop[0]", [](Request& r) { r.sampling.stop = {"\xff"}; }},
      {"stop may", [](Request& r) { r.sampling.stop.assign(kMaxStopStrings + 1, "a"); }},
  };
  for (const Case& c : cases) {
    Request r = valid();
    c.change(r);
    const memory::Status status = validate_request(r, limits());
    CAPTURE(c.names, status.to_string());
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK(status.message().find(c.names) != std::string::npos);
  }
}

TEST_CASE("validate: values at the bounds pass", "[validate]") {
  Request r = valid();
  r.prompt_ids = {0, 99};
  r.sampling.temperature = -0.f;
  r.sampling.top_p = 1e-30f;
  r.sampling.top_k = std::numeric_limits<int32_t>::max();
  r.sampling.n = kMaxChoices;
  r.sampling.logprobs = kMaxLogprobs;
  r.sampling.max_tokens = std::numeric_limits<int64_t>::max();
  r.sampling.min_tokens = 1 << 20;
  r.sampling.stop.assign(kMaxStopStrings, std::string(kMaxStopBytes, 'a'));
  r.sampling.logit_bias.assign(kMaxLogitBias, {99, -kInf});
  const memory::Status status = validate_request(r, limits());
  CAPTURE(status.to_string());
  REQUIRE(status.ok());
  CHECK(generation_limit(r, 64) == 62);
}

TEST_CASE("validate: what needs more pages than the pool has is refused for good", "[validate]") {
  RequestLimits l = limits();
  l.kv_pages = 2;
  Request r = valid();
  r.sampling.max_tokens = 29;
  CHECK(validate_request(r, l).ok());
  r.sampling.max_tokens = 30;
  const memory::Status status = validate_request(r, l);
  CHECK(status.code() == Code::kFailedPrecondition);
  CHECK(status.message().find("--kv-cache-memory") != std::string::npos);
}

TEST_CASE("validate: UTF-8", "[validate]") {
  for (const char* good :
       {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"})
    CHECK(is_valid_utf8(good));
  for (const char* bad :
       {"\x80", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "a\xe2\x82"}) {
    CHECK_FALSE(is_valid_utf8(bad));
  }
}

}  // namespace engram::engine
