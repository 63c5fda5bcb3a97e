#include "memory/table/share_protocol.h"

#include <catch2/catch.hpp>
#include <random>

#include "tests/support/bytes.h"

namespace engram::memory {
namespace {

using tests::bytes_of;

std::string header_bytes() {
  std::string header(4096, '\0');
  for (size_t i = 0; i < header.size(); ++i) header[i] = static_cast<char>(i * 7);
  return header;
}

ShareEntry entry() {
  ShareEntry e;
  e.index = 3;
  e.count = 9;
  e.state = ShareState::kFailed;
  e.pages = PageKind::kHugetlb2M;
  e.huge_percent = 97;
  e.attached = 12;
  e.bytes_done = int64_t{5} << 40;
  e.bytes_total = int64_t{6} << 40;
  e.header = header_bytes();
  e.path = "/tables/layer 2.bin";
  e.error = "DATA_LOSS: extent 4";
  return e;
}

std::vector<std::string> all_replies() {
  return {
      encode_share_reply(entry()),
      encode_share_reply(ShareTable{
          header_bytes(),
          {{0, PageKind::kHugetlb1G, 100, int64_t{1} << 37}, {-1, PageKind::kSmall, 0, 4096}}}),
      encode_share_reply(ShareLoading{10, 20}),
      encode_share_reply(not_found("no table")),
  };
}

TEST_CASE("requests and replies survive the way", "[share_protocol]") {
  const std::string list = encode_share_request(ListRequest{77});
  CHECK(std::get<ListRequest>(decode_share_request(bytes_of(list)).value()).index == 77);
  const std::string attach = encode_share_request(AttachRequest{"0123456789abcdef"});
  const ShareRequest request = decode_share_request(bytes_of(attach)).value();
  CHECK(std::get<AttachRequest>(request).id == "0123456789abcdef");

  const std::vector<std::string> replies = all_replies();
  const ShareReply first = decode_share_reply(bytes_of(replies[0])).value();
  const ShareEntry& e = std::get<ShareEntry>(first);
  CHECK(e.index == 3);
  CHECK(e.count == 9);
  CHECK(e.state == ShareState::kFailed);
  CHECK(e.pages == PageKind::kHugetlb2M);
  CHECK(e.huge_percent == 97);
  CHECK(e.attached == 12);
  CHECK(e.bytes_done == int64_t{5} << 40);
  CHECK(e.bytes_total == int64_t{6} << 40);
  CHECK(e.header == header_bytes());
  CHECK(e.path == "/tables/layer 2.bin");
  CHECK(e.error == "DATA_LOSS: extent 4");
  const ShareReply second = decode_share_reply(bytes_of(replies[1])).value();
  const ShareTable& table = std::get<ShareTable>(second);
  CHECK(table.header == header_bytes());
  REQUIRE(table.copies.size() == 2);
  CHECK(table.copies[0].node == 0);
  CHECK(table.copies[0].mapped_bytes == int64_t{1} << 37);
  CHECK(table.copies[1].node == -1);
  CHECK(table.copies[1].pages == PageKind::kSmall);
  const ShareReply third = decode_share_reply(bytes_of(replies[2])).value();
  CHECK(std::get<ShareLoading>(third).bytes_total == 20);
  const ShareReply fourth = decode_share_reply(bytes_of(replies[3])).value();
  CHECK(std::get<Status>(fourth).code() == Code::kNotFound);
  CHECK(std::get<Status>(fourth).message() == "no table");
}

TEST_CASE("a message that ends early or goes on is refused", "[share_protocol]") {
  for (const std::string& message : all_replies()) {
    for (size_t length = 0; length < message.size(); ++length) {
      REQUIRE_FALSE(decode_share_reply(bytes_of(message).first(length)).ok());
    }
    CHECK_FALSE(decode_share_reply(bytes_of(message + "x")).ok());
  }
  const std::string list = encode_share_request(ListRequest{0});
  for (size_t length = 0; length < list.size(); ++length) {
    REQUIRE_FALSE(decode_share_request(bytes_of(list).first(length)).ok());
  }
}

TEST_CASE("another version is named, its errors are understood", "[share_protocol]") {
  std::string message = encode_share_request(ListRequest{0});
  message[4] = 9;
  const Status status = decode_share_request(bytes_of(message)).status();
  CHECK(status.code() == Code::kFailedPrecondition);
  CHECK_THAT(status.message(), Catch::Contains("version 1 expected, 9 found"));
  message = encode_share_reply(ShareLoading{1, 2});
  message[4] = 9;
  CHECK(decode_share_reply(bytes_of(message)).status().code() == Code::kFailedPrecondition);
  message = encode_share_reply(failed_precondition("too new"));
  message[4] = 9;
  const ShareReply reply = decode_share_reply(bytes_of(message)).value();
  CHECK(std::get<Status>(reply).message() == "too new");
}

TEST_CASE("long texts are cut, so that a message always fits", "[share_protocol]") {
  ShareEntry e = entry();
  e.path = std::string(100000, 'p');
  e.error = std::string(100000, 'e');
  const std::string message = encode_share_reply(e);
  CHECK(message.size() <= kShareMessageLimit);
  CHECK(decode_share_reply(bytes_of(message)).ok());
  ShareTable table{header_bytes(), std::vector<ShareCopy>(kShareCopies)};
  CHECK(encode_share_reply(table).size() <= kShareMessageLimit);
}

TEST_CASE("ten thousand corrupt messages are refused or mean what they say", "[share_protocol]") {
  constexpr uint32_t kSeed = 20;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  std::vector<std::string> messages = all_replies();
  int accepted = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string message = messages[random() % messages.size()];
    const int changes = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < changes; ++i) {
      // Mostly in the fields, which lie in front of the header bytes or at the end.
      const size_t at = random() % 2 == 0 ? random() % std::min<size_t>(64, message.size())
                                          : message.size() - 1 - random() % 8;
      message[at] = static_cast<char>(random());
    }
    const Result<ShareReply> reply = decode_share_reply(bytes_of(message));
    if (!reply.ok()) continue;
    ++accepted;
    if (message[4] != 1 || message[5] != 0) continue;  // an error of another version
    REQUIRE(encode_share_reply(reply.value()) == message);
  }
  CHECK(accepted > 100);
}

}  // namespace
}  // namespace engram::memory
