// Saving: whole files and appended lines, and what a full disk, a size limit, a missing directory
// and a device leave behind.
#include "tools/bench/save_result.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/temp_directory.h"

namespace engram::tools::bench {
namespace {

using memory::Code;
using memory::Status;

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

int entries_of(const std::string& directory) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

// Files may not grow beyond `bytes` while it lives: as on a full disk, for one process.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  SizeLimit(const SizeLimit&) = delete;
  SizeLimit& operator=(const SizeLimit&) = delete;
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit before_ = {};
  void (*old_handler_)(int) = SIG_DFL;
};

TEST_CASE("a whole file replaces what was there, and only once it is complete") {
  const tests::TempDirectory directory;
  const std::string path = directory.file("result.json");
  REQUIRE(save_text(path, "first").ok());
  REQUIRE(text_of(path) == "first");
  REQUIRE(save_text(path, "second").ok());
  REQUIRE(text_of(path) == "second");
  {
    const SizeLimit limit(100);
    const Status status = save_text(path, std::string(5000, 'x'));
    REQUIRE(status.code() == Code::kResourceExhausted);
    REQUIRE(status.message().find(path) == 0);
  }
  REQUIRE(text_of(path) == "second");
  REQUIRE(entries_of(directory.path()) == 1);
}

TEST_CASE("a link stays a link to the file that is replaced") {
  const tests::TempDirectory directory;
  directory.write("file", "old");
  REQUIRE(::symlink(directory.file("file").c_str(), directory.file("link").c_str()) == 0);
  REQUIRE(save_text(directory.file("link"), "new").ok());
  REQUIRE(text_of(directory.file("file")) == "new");
  REQUIRE(std::filesystem::is_symlink(directory.file("link")));
}

TEST_CASE("appended lines are lines of their own") {
  const tests::TempDirectory directory;
  const std::string path = directory.file("results.jsonl");
  REQUIRE(append_line(path, "a").ok());
  REQUIRE(append_line(path, "b").ok());
  REQUIRE(text_of(path) == "a\nb\n");
  // As other tools leave it: no newline at the end.
  directory.write("results.jsonl", "{\"x\": 1}");
  REQUIRE(append_line(path, "c").ok());
  REQUIRE(text_of(path) == "{\"x\": 1}\nc\n");
}

TEST_CASE("a line that does not fit is taken back whole") {
  const tests::TempDirectory directory;
  const std::string path = directory.file("results.jsonl");
  REQUIRE(append_line(path, std::string(60, 'a')).ok());
  {
    const SizeLimit limit(100);
    const Status status = append_line(path, std::string(90, 'b'));
    REQUIRE(status.code() == Code::kResourceExhausted);
    REQUIRE(status.message().find(path) == 0);
  }
  REQUIRE(text_of(path) == std::string(60, 'a') + "\n");
}

TEST_CASE("a full device is a status with its path, and stays a device") {
  for (const bool append : {false, true}) {
    const Status status =
        append ? append_line("/dev/full", "line") : save_text("/dev/full", "text");
    REQUIRE(status.code() == Code::kResourceExhausted);
    REQUIRE(status.message().find("/dev/full: writing failed: No space left on device") == 0);
  }
  struct stat info {};
  REQUIRE(::stat("/dev/full", &info) == 0);
  REQUIRE(S_ISCHR(info.st_mode));
  REQUIRE(save_text("/dev/null", "text").ok());
  REQUIRE(append_line("/dev/null", "text").ok());
  REQUIRE(check_can_save("/dev/null").ok());
}

TEST_CASE("places where nothing can be saved are found before and after a run") {
  const tests::TempDirectory directory;
  const std::string missing = directory.file("missing/result.json");
  for (const Status& status :
       {save_text(missing, "x"), append_line(missing, "x"), check_can_save(missing)}) {
    REQUIRE(status.code() == Code::kNotFound);
    REQUIRE(status.message().find(missing) == 0);
  }
  for (const Status& status :
       {save_text(directory.path(), "x"), append_line(directory.path(), "x"),
        check_can_save(directory.path())}) {
    REQUIRE(
        status.message() == directory.path() + ": expected a file to save to, found a directory");
  }
  REQUIRE(check_can_save("").message() == "expected the name of a file to save, found none");
  REQUIRE(check_can_save(directory.file("result.json")).ok());
  REQUIRE(entries_of(directory.path()) == 0);
  directory.write("there", "kept");
  REQUIRE(check_can_save(directory.file("there")).ok());
  REQUIRE(text_of(directory.file("there")) == "kept");
}

}  // namespace
}  // namespace engram::tools::bench
