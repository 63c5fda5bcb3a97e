// What goes over the wire for each kind of error.
#include "server/error_details.h"

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/support/status.h>

#include <catch2/catch.hpp>
#include <string>

namespace engram::server {
namespace {

template <typename Detail>
Detail detail_of(const grpc::Status& status) {
  google::rpc::Status details;
  REQUIRE(details.ParseFromString(status.error_details()));
  REQUIRE(details.details_size() == 1);
  Detail detail;
  REQUIRE(details.details(0).UnpackTo(&detail));
  return detail;
}

}  // namespace

TEST_CASE("errors: fields of the engine's messages get their path", "[errors]") {
  CHECK(field_of_message("top_p must be between 0 and 1, got 3") == "sampling.top_p");
  CHECK(field_of_message("n must be between") == "sampling.n");
  CHECK(field_of_message("prompt of 9 tokens") == "prompt");
  CHECK(field_of_message("prompt[3] is 70000") == "prompt[3]");
  CHECK(field_of_message("stop[2] is empty") == "stopping.stop[2]");
  CHECK(field_of_message("logit_bias may have") == "penalties.logit_bias");
  CHECK(field_of_message("something else").empty());
  CHECK(field_of_message("").empty());
}

TEST_CASE("errors: each code has its detail", "[errors]") {
  using memory::Code;
  CHECK(to_grpc({}).ok());
  const grpc::Status invalid = to_grpc({memory::invalid_argument("bad"), "sampling.n"});
  CHECK(invalid.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  const auto bad = detail_of<google::rpc::BadRequest>(invalid);
  REQUIRE(bad.field_violations_size() == 1);
  CHECK(bad.field_violations(0).field() == "sampling.n");
  for (const Code code : {Code::kUnavailable, Code::kResourceExhausted}) {
    const grpc::Status status = to_grpc({{code, "later"}, ""});
    CHECK(static_cast<int>(status.error_code()) == static_cast<int>(code));
    CHECK(detail_of<google::rpc::RetryInfo>(status).retry_delay().seconds() > 0);
  }
  for (const Code code : {Code::kInternal, Code::kCancelled, Code::kFailedPrecondition}) {
    const auto info = detail_of<google::rpc::ErrorInfo>(to_grpc({{code, "why"}, ""}));
    CHECK(info.reason() == memory::code_name(code));
    CHECK(info.domain() == "engramd");
  }
  CHECK(
      detail_of<google::rpc::ResourceInfo>(to_grpc({memory::not_found("m"), ""})).resource_type() ==
      "model");
}

TEST_CASE("errors: texts are cut between code points", "[errors]") {
  CHECK(cut_text("abc", 3) == "abc");
  CHECK(cut_text("abc", 2) == "ab");
  CHECK(cut_text("a\xc3\xa4", 2) == "a");
  CHECK(cut_text("\xf0\x9f\x99\x82", 3).empty());
  CHECK(cut_text("", 0).empty());
}

TEST_CASE("errors: messages have a bound", "[errors]") {
  const grpc::Status status = to_grpc({memory::invalid_argument(std::string(100000, 'x')), ""});
  CHECK(status.error_message().size() <= 4096);
  CHECK(status.error_details().size() < 16384);
}

}  // namespace engram::server
