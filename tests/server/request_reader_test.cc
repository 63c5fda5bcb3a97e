// Every field of a CompleteRequest that the front end itself checks: at its bound, past it, absent.
#include "server/request_reader.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "engine/run/validate.h"

namespace engram::server {
namespace {

v1::CompleteRequest valid() {
  v1::CompleteRequest request;
  request.set_text("x");
  return request;
}

struct Case {
  const char* field;  // what the violation names
  std::function<void(v1::CompleteRequest&)> change;
};

const std::vector<Case>& refused() {
  using R = v1::CompleteRequest;
  static const std::vector<Case> cases = {
      {"prompt", [](R& r) { r.clear_prompt(); }},
      {"text", [](R& r) { r.set_text(""); }},
      {"text", [](R& r) { r.set_text(std::string(kMaxTextBytes + 1, 'x')); }},
      {"token_ids", [](R& r) { r.mutable_token_ids(); }},
      {"texts.texts", [](R& r) { r.mutable_texts(); }},
      {"texts.texts[0]", [](R& r) { r.mutable_texts()->add_texts(""); }},
      {"texts.texts",
       [](R& r) {
         for (int i = 0; i <= kMaxPrompts; ++i) r.mutable_texts()->add_texts("x");
       }},
      {"token_id_batch.prompts", [](R& r) { r.mutable_token_id_batch(); }},
      {"token_id_batch.prompts[1]",
       [](R& r) {
         r.mutable_token_id_batch()->add_prompts()->add_ids(1);
         r.mutable_token_id_batch()->add_prompts();
       }},
      {"sampling.n", [](R& r) { r.mutable_sampling()->set_n(0); }},
      {"sampling.n", [](R& r) { r.mutable_sampling()->set_n(engine::kMaxChoices + 1); }},
      {"sampling.n", [](R& r) { r.mutable_sampling()->set_n(1u << 31); }},
      {"sampling.n", [](R& r) { r.mutable_sampling()->set_n(0xffffffffu); }},
      {"sampling.n",
       [](R& r) {
         for (int i = 0; i < 3; ++i) r.mutable_texts()->add_texts("x");
         r.mutable_sampling()->set_n(86);  // 258 in all
       }},
      {"penalties.logit_bias",
       [](R& r) {
         for (uint32_t i = 0; i <= engine::kMaxLogitBias; ++i) {
           (*r.mutable_penalties()->mutable_logit_bias())[i] = 0;
         }
       }},
      {"penalties.logit_bias",
       [](R& r) { (*r.mutable_penalties()->mutable_logit_bias())[1u << 31] = 0; }},
      {"stopping.max_tokens", [](R& r) { r.mutable_stopping()->set_max_tokens(0); }},
      {"stopping.stop",
       [](R& r) {
         for (int i = 0; i <= engine::kMaxStopStrings; ++i) r.mutable_stopping()->add_stop("x");
       }},
      {"stopping.stop_token_ids",
       [](R& r) {
         r.mutable_stopping()->mutable_stop_token_ids()->Resize(engine::kMaxStopTokenIds + 1, 1);
       }},
      {"stopping.stop_token_ids",
       [](R& r) { r.mutable_stopping()->mutable_stop_token_ids()->Resize(1000000, 1); }},
      {"stopping.stop_token_ids[1]",
       [](R& r) {
         r.mutable_stopping()->add_stop_token_ids(1);
         r.mutable_stopping()->add_stop_token_ids(1u << 31);
       }},
      {"output.logprobs", [](R& r) { r.mutable_output()->set_logprobs(21); }},
      {"output.logprobs", [](R& r) { r.mutable_output()->set_logprobs(0xffffffffu); }},
      {"output.prompt_logprobs", [](R& r) { r.mutable_output()->set_prompt_logprobs(21); }},
      {"truncate_prompt_tokens", [](R& r) { r.set_truncate_prompt_tokens(0); }},
      {"truncate_prompt_tokens", [](R& r) { r.set_truncate_prompt_tokens(1u << 31); }},
      {"request_id", [](R& r) { r.set_request_id(""); }},
      {"request_id", [](R& r) { r.set_request_id(std::string(129, 'x')); }},
      {"request_id", [](R& r) { r.set_request_id("a#1"); }},
      {"request_id", [](R& r) { r.set_request_id("a\nb"); }},
  };
  return cases;
}

}  // namespace

TEST_CASE("reader: refused requests name their field", "[reader]") {
  for (const Case& c : refused()) {
    v1::CompleteRequest request = valid();
    c.change(request);
    ReadRequest read;
    const CallError error = read_request(request, &read);
    CAPTURE(c.field, error.status.to_string());
    CHECK(error.status.code() == memory::Code::kInvalidArgument);
    CHECK(error.field == c.field);
    CHECK(error.status.message().find(c.field) == 0);
  }
}

TEST_CASE("reader: values at the bounds pass", "[reader]") {
  v1::CompleteRequest request;
  for (int i = 0; i < kMaxPrompts; ++i) request.mutable_texts()->add_texts("x");
  request.mutable_sampling()->set_n(kMaxTotalChoices / kMaxPrompts);
  request.mutable_output()->set_logprobs(20);
  request.mutable_output()->set_prompt_logprobs(0);
  request.mutable_stopping()->set_max_tokens(0xffffffffu);
  request.mutable_stopping()->mutable_stop_token_ids()->Resize(engine::kMaxStopTokenIds, 1);
  request.set_truncate_prompt_tokens(0x7fffffffu);
  request.set_request_id(std::string(128, 'x'));
  ReadRequest read;
  const CallError error = read_request(request, &read);
  CAPTURE(error.status.to_string());
  REQUIRE(error.ok());
  CHECK(read.prompts == kMaxPrompts);
  CHECK(read.text_bytes == kMaxPrompts);
  CHECK(read.sampling.max_tokens == 0xffffffffll);
  CHECK(read.sampling.logprobs == 20);
  CHECK(read.sampling.prompt_logprobs == 0);
}

TEST_CASE("reader: unset is the documented default, zero is zero", "[reader]") {
  ReadRequest unset;
  REQUIRE(read_request(valid(), &unset).ok());
  const engine::SamplingParams standard;
  CHECK(unset.sampling.n == 1);
  CHECK(unset.sampling.temperature == standard.temperature);
  CHECK(unset.sampling.max_tokens == -1);
  CHECK(unset.sampling.logprobs == -1);
  CHECK(unset.sampling.prompt_logprobs == -1);
  CHECK(!unset.sampling.seed);
  CHECK(unset.sampling.skip_special_tokens);
  CHECK(unset.add_special_tokens);
  CHECK(unset.switches.text);
  CHECK(unset.switches.token_ids);

  v1::CompleteRequest zeros = valid();
  zeros.mutable_sampling()->set_temperature(0);
  zeros.mutable_sampling()->set_seed(0);
  zeros.mutable_output()->set_logprobs(0);
  zeros.mutable_output()->set_skip_special_tokens(false);
  zeros.set_add_special_tokens(false);
  ReadRequest read;
  REQUIRE(read_request(zeros, &read).ok());
  CHECK(read.sampling.temperature == 0.f);
  CHECK(read.sampling.seed == 0u);
  CHECK(read.sampling.logprobs == 0);
  CHECK(!read.sampling.skip_special_tokens);
  CHECK(!read.add_special_tokens);
}

TEST_CASE("reader: prompts become ids, the last ones when truncated", "[reader]") {
  const auto tokenizer = engine::make_byte_tokenizer(256);
  v1::CompleteRequest request;
  for (const uint32_t id : {1u, 2u, 3u, 4u}) request.mutable_token_ids()->add_ids(id);
  request.set_truncate_prompt_tokens(2);
  ReadRequest read;
  REQUIRE(read_request(request, &read).ok());
  std::vector<std::vector<int32_t>> prompts;
  REQUIRE(read_prompts(request, read, *tokenizer, &prompts).ok());
  CHECK(prompts == std::vector<std::vector<int32_t>>{{3, 4}});

  request.mutable_token_ids()->set_ids(1, 0xffffffffu);
  const CallError error = read_prompts(request, read, *tokenizer, &prompts);
  CHECK(error.field == "token_ids.ids[1]");

  v1::CompleteRequest batch;
  batch.mutable_texts()->add_texts("ab");
  batch.mutable_texts()->add_texts("c");
  ReadRequest read_batch;
  REQUIRE(read_request(batch, &read_batch).ok());
  prompts.clear();
  REQUIRE(read_prompts(batch, read_batch, *tokenizer, &prompts).ok());
  CHECK(prompts == std::vector<std::vector<int32_t>>{{'a', 'b'}, {'c'}});
}

TEST_CASE("reader: logit bias is in the order of its ids", "[reader]") {
  v1::CompleteRequest request = valid();
  for (const uint32_t id : {7u, 1u, 300u, 5u}) {
    (*request.mutable_penalties()->mutable_logit_bias())[id] = 1;
  }
  ReadRequest read;
  REQUIRE(read_request(request, &read).ok());
  REQUIRE(read.sampling.logit_bias.size() == 4);
  CHECK(read.sampling.logit_bias[0].first == 1);
  CHECK(read.sampling.logit_bias[3].first == 300);
}

engine::GenerationDefaults some_defaults() {
  engine::GenerationDefaults defaults;
  defaults.present = true;
  defaults.temperature = 0.7;
  defaults.top_p = 0.9;
  defaults.top_k = 20;
  defaults.min_p = 0.1;
  defaults.repetition_penalty = 1.2;
  return defaults;
}

TEST_CASE("the model's sampling defaults fill in what is unset", "[request]") {
  ReadRequest read;
  const v1::CompleteRequest request = valid();
  REQUIRE(read_request(request, &read).ok());
  apply_defaults(request, some_defaults(), &read.sampling);
  CHECK(read.sampling.temperature == 0.7f);
  CHECK(read.sampling.top_p == 0.9f);
  CHECK(read.sampling.top_k == 20);
  CHECK(read.sampling.min_p == 0.1f);
  CHECK(read.sampling.repetition_penalty == 1.2f);
  CHECK(read.sampling.max_tokens == -1);
}

TEST_CASE("what a request sets stays, also where it is the proto's default", "[request]") {
  v1::CompleteRequest request = valid();
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_top_p(1);
  request.mutable_sampling()->set_top_k(0);
  request.mutable_sampling()->set_min_p(0);
  request.mutable_penalties()->set_repetition(1);
  ReadRequest read;
  REQUIRE(read_request(request, &read).ok());
  apply_defaults(request, some_defaults(), &read.sampling);
  CHECK(read.sampling.temperature == 1.f);
  CHECK(read.sampling.top_p == 1.f);
  CHECK(read.sampling.top_k == 0);
  CHECK(read.sampling.min_p == 0.f);
  CHECK(read.sampling.repetition_penalty == 1.f);
}

TEST_CASE("the model's limit of new tokens is default and upper bound", "[request]") {
  engine::GenerationDefaults defaults;
  defaults.max_new_tokens = 100;
  for (const int64_t wanted : {-1, 1, 99, 100, 101, 100000}) {
    CAPTURE(wanted);
    v1::CompleteRequest request = valid();
    if (wanted > 0) request.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(wanted));
    ReadRequest read;
    REQUIRE(read_request(request, &read).ok());
    apply_defaults(request, defaults, &read.sampling);
    CHECK(read.sampling.max_tokens == (wanted < 0 ? 100 : std::min<int64_t>(wanted, 100)));
  }
}

}  // namespace engram::server
