#include "memory/io/file.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

TEST_CASE("files are read by position", "[file]") {
  tests::TempDirectory directory;
  directory.write("a", "0123456789");
  Result<File> file = File::open(directory.file("a"));
  REQUIRE(file.ok());
  CHECK(file.value().bytes() == 10);
  CHECK(file.value().path() == directory.file("a"));
  std::string text(4, '-');
  REQUIRE(file.value().read(3, 4, text.data()).ok());
  CHECK(text == "3456");
  REQUIRE(file.value().read(10, 0, text.data()).ok());
  CHECK(text == "3456");
  const Status beyond = file.value().read(8, 4, text.data());
  CHECK(beyond.code() == Code::kDataLoss);
  CHECK_THAT(beyond.message(), Catch::Contains("a: ended at byte 10, expected 12 bytes"));

  File moved = std::move(file).value();
  REQUIRE(moved.read(0, 4, text.data()).ok());
  CHECK(text == "0123");
}

TEST_CASE("what is no regular file is refused, not waited for", "[file]") {
  tests::TempDirectory directory;
  CHECK(File::open(directory.file("none")).status().code() == Code::kNotFound);
  CHECK(File::open(directory.path()).status().code() == Code::kInvalidArgument);
  REQUIRE(::mkfifo(directory.file("pipe").c_str(), 0600) == 0);
  const Status pipe = File::open(directory.file("pipe")).status();
  CHECK(pipe.code() == Code::kInvalidArgument);
  CHECK_THAT(pipe.message(), Catch::Contains("is not a regular file"));
}

TEST_CASE("text files are read whole, up to a limit", "[file]") {
  tests::TempDirectory directory;
  directory.write("a", std::string("a\0b", 3));
  directory.write("empty", "");
  CHECK(read_text_file(directory.file("a"), 3).value() == std::string("a\0b", 3));
  CHECK(read_text_file(directory.file("empty"), 0).value().empty());
  const Status status = read_text_file(directory.file("a"), 2).status();
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("3 bytes, expected at most 2"));
}

}  // namespace
}  // namespace engram::memory
