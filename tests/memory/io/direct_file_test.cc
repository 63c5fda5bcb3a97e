#include "memory/io/direct_file.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <utility>

#include "memory/io/file.h"
#include "tests/support/aligned_bytes.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

TEST_CASE("a direct file knows its size, its alignment and whether it is direct", "[direct_file]") {
  tests::TempDirectory directory;
  const std::string path = directory.file("a");
  directory.write("a", std::string(10000, 'x'));
  Result<DirectFile> file = DirectFile::open(path);
  REQUIRE(file.ok());
  CHECK(file.value().path() == path);
  CHECK(file.value().bytes() == 10000);
  CHECK(file.value().bytes_now() == 10000);
  CHECK(file.value().alignment() == 4096);
  if (!file.value().direct()) WARN("O_DIRECT is refused in " << directory.path());

  std::filesystem::resize_file(path, 5000);
  CHECK(file.value().bytes() == 10000);
  CHECK(file.value().bytes_now() == 5000);

  const DirectFile moved = std::move(file).value();
  const tests::AlignedBytes block(4096);
  CHECK(::pread(moved.descriptor(), block.data(), 4096, 0) == 4096);
  CHECK(block.data()[4095] == 'x');
}

TEST_CASE("a buffered file forgets what was read", "[direct_file]") {
  tests::TempDirectory directory;
  directory.write("a", std::string(1 << 20, 'x'));
  // Pages that are not written yet cannot be dropped.
  ::sync();
  Result<DirectFile> file = DirectFile::open_buffered(directory.file("a"));
  REQUIRE(file.ok());
  CHECK_FALSE(file.value().direct());
  CHECK(file.value().alignment() == 4096);
  const tests::AlignedBytes bytes(1 << 20);
  REQUIRE(::pread(file.value().descriptor(), bytes.data(), 1 << 20, 0) == 1 << 20);
  // Advice, so that a refusal is no error; how much is left is shown by the loader's test.
  file.value().forget(0, 1 << 20);
  file.value().forget(0, 0);
}

TEST_CASE("what is no regular file is refused with its name", "[direct_file]") {
  tests::TempDirectory directory;
  const Status none = DirectFile::open(directory.file("none")).status();
  CHECK(none.code() == Code::kNotFound);
  CHECK_THAT(none.message(), Catch::Contains("none: cannot be opened: No such file"));
  CHECK(DirectFile::open(directory.path()).status().code() == Code::kInvalidArgument);
  CHECK(DirectFile::open("/dev/zero").status().code() == Code::kInvalidArgument);
  REQUIRE(::mkfifo(directory.file("pipe").c_str(), 0600) == 0);
  CHECK(DirectFile::open(directory.file("pipe")).status().code() == Code::kInvalidArgument);
}

TEST_CASE("a file is opened again though its name is gone", "[direct_file]") {
  tests::TempDirectory directory;
  const std::string path = directory.file("a");
  directory.write("a", std::string(8192, 'x'));
  const Result<File> first = File::open(path);
  REQUIRE(first.ok());
  std::filesystem::remove(path);
  directory.write("a", std::string(4096, 'y'));
  const Result<DirectFile> again = DirectFile::open_again(first.value());
  REQUIRE(again.ok());
  CHECK(again.value().path() == path);
  CHECK(again.value().bytes() == 8192);
  CHECK(again.value().direct() == DirectFile::open(path).value().direct());
  const tests::AlignedBytes block(4096);
  CHECK(::pread(again.value().descriptor(), block.data(), 4096, 4096) == 4096);
  CHECK(block.data()[0] == 'x');
}

TEST_CASE("what lies in memory is known", "[direct_file]") {
  if (!std::filesystem::exists("/dev/shm")) return;
  std::string path = "/dev/shm/engram-test-XXXXXX";
  const int descriptor = ::mkstemp(path.data());
  if (descriptor < 0) return;
  const Result<DirectFile> file = DirectFile::open(path);
  ::unlink(path.c_str());
  ::close(descriptor);
  REQUIRE(file.ok());
  CHECK(file.value().in_memory());
}

TEST_CASE("an empty file can be opened", "[direct_file]") {
  tests::TempDirectory directory;
  directory.write("a", "");
  Result<DirectFile> file = DirectFile::open(directory.file("a"));
  REQUIRE(file.ok());
  CHECK(file.value().bytes() == 0);
}

}  // namespace
}  // namespace engram::memory
