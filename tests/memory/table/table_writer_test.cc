#include "memory/table/table_writer.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <thread>

#include "memory/table/table_file.h"
#include "tests/support/bytes.h"
#include "tests/support/sanitized.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr int64_t kExtent = 65536;

TableHeader make_plan(int64_t rows) {
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 256, rows, 4);
  return plan_table(g, RowLayout::kSplit, kExtent, {}).value();
}

TableWriterOptions options(const std::string& source) {
  TableWriterOptions o;
  o.source = source;
  o.commit_bytes = 3 * kExtent;
  return o;
}

// What an undisturbed conversion writes.
std::string wanted_bytes(const tests::TempDirectory& directory, const TableHeader& plan) {
  tests::write_synthetic_table(
      directory.file("wanted"), plan.geometry, plan.layout, plan.extent_bytes);
  return tests::file_bytes(directory.file("wanted"));
}

bool nothing_left_beside(const tests::TempDirectory& directory, const std::string& name) {
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    const std::string other = entry.path().filename().string();
    if (other != name && other.starts_with(name)) return false;
  }
  return true;
}

TEST_CASE("extents in any order, aligned or not, direct or not, make the same file", "[writer]") {
  const tests::TempDirectory directory;
  const TableHeader plan = make_plan(2000);
  const std::string wanted = wanted_bytes(directory, plan);
  const std::vector<uint8_t> image = tests::synthetic_image(plan);
  std::vector<uint8_t> shifted(image.size() + 1);
  std::copy(image.begin(), image.end(), shifted.begin() + 1);
  int variant = 0;
  for (const bool direct : {true, false}) {
    for (const bool preallocate : {true, false}) {
      CAPTURE(direct, preallocate);
      TableWriterOptions o = options("s");
      o.direct = direct;
      o.preallocate = preallocate;
      const std::string name = std::string("t").append(std::to_string(variant++));
      const std::string path = directory.file(name);
      auto writer = TableWriter::create(path, plan, o);
      INFO(writer.status().message());
      REQUIRE(writer.ok());
      if (!direct) CHECK(!writer.value()->direct());
      for (int64_t i = plan.extents() - 1; i >= 0; --i) {
        const std::vector<uint8_t>& from = i % 2 == 0 ? image : shifted;
        REQUIRE(writer.value()->write_extent(i, from.data() + plan.extent_at(i) + i % 2).ok());
        CHECK(writer.value()->written(i));
      }
      const Result<std::string> id = writer.value()->finish();
      INFO(id.status().message());
      REQUIRE(id.ok());
      CHECK(tests::file_bytes(path) == wanted);
      CHECK(TableFile::open(path).value()->header().id == id.value());
      CHECK(nothing_left_beside(directory, name));
    }
  }
}

TEST_CASE("threads write their extents at the same time", "[writer]") {
  const tests::TempDirectory directory;
  const TableHeader plan = make_plan(5000);
  const std::string wanted = wanted_bytes(directory, plan);
  const std::vector<uint8_t> image = tests::synthetic_image(plan);
  auto writer = TableWriter::create(directory.file("t"), plan, options("s"));
  REQUIRE(writer.ok());
  std::vector<std::thread> threads;
  std::vector<Status> statuses(4);
  for (int64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = t; i < plan.extents() && statuses[static_cast<size_t>(t)].ok(); i += 4) {
        statuses[static_cast<size_t>(t)] =
            writer.value()->write_extent(i, image.data() + plan.extent_at(i));
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (const Status& status : statuses) CHECK(status.ok());
  REQUIRE(writer.value()->finish().ok());
  CHECK(tests::file_bytes(directory.file("t")) == wanted);
}

TEST_CASE("an unfinished table goes on with what was committed", "[writer]") {
  const tests::TempDirectory directory;
  const TableHeader plan = make_plan(2000);
  const std::string wanted = wanted_bytes(directory, plan);
  const std::vector<uint8_t> image = tests::synthetic_image(plan);
  const std::string path = directory.file("t");
  {
    auto writer = TableWriter::create(path, plan, options("s")).value();
    CHECK(writer->extents_resumed() == 0);
    for (int64_t i = 0; i < 4; ++i) {
      REQUIRE(writer->write_extent(i, image.data() + plan.extent_at(i)).ok());
    }
    CHECK(writer->finish().status().code() == Code::kFailedPrecondition);
    CHECK_THAT(writer->finish().status().message(), Catch::Contains("extent 4 of 9 is missing"));
    CHECK(!TableFile::open(path).ok());
    CHECK(!TableFile::open(path + kUnfinishedSuffix).ok());
    const Status second = TableWriter::create(path, plan, options("s")).status();
    CHECK_THAT(second.message(), Catch::Contains("another process is writing it"));
  }
  SECTION("the same conversion") {
    auto writer = TableWriter::create(path, plan, options("s")).value();
    CHECK(writer->extents_resumed() == 4);
    CHECK(writer->written(3));
    CHECK(!writer->written(4));
    for (int64_t i = 4; i < plan.extents(); ++i) {
      REQUIRE(writer->write_extent(i, image.data() + plan.extent_at(i)).ok());
    }
    REQUIRE(writer->finish().ok());
    CHECK(tests::file_bytes(path) == wanted);
    CHECK(TableWriter::create(path, plan, options("s")).status().code() == Code::kAlreadyExists);
  }
  SECTION("a torn record at the end of the journal is cut off") {
    const std::string journal = path + kUnfinishedSuffix + ".journal";
    const uintmax_t bytes = std::filesystem::file_size(journal);
    std::filesystem::resize_file(journal, bytes - 1);
    CHECK(TableWriter::create(path, plan, options("s")).value()->extents_resumed() == 3);
    std::filesystem::resize_file(journal, 100);
    CHECK(TableWriter::create(path, plan, options("s")).value()->extents_resumed() == 0);
  }
  SECTION("a lost data file is not trusted for its journal") {
    std::filesystem::remove(path + kUnfinishedSuffix);
    CHECK(TableWriter::create(path, plan, options("s")).value()->extents_resumed() == 0);
  }
  SECTION("another source or plan is refused, and can be discarded") {
    const Status source = TableWriter::create(path, plan, options("r")).status();
    CHECK(source.code() == Code::kFailedPrecondition);
    CHECK_THAT(source.message(), Catch::Contains("of \"s\", expected \"r\""));
    const Status other = TableWriter::create(path, make_plan(2001), options("s")).status();
    CHECK_THAT(other.message(), Catch::Contains("another geometry, codec"));
    REQUIRE(TableWriter::discard(path).ok());
    CHECK(nothing_left_beside(directory, "t"));
    CHECK(TableWriter::create(path, plan, options("r")).value()->extents_resumed() == 0);
  }
}

TEST_CASE("an existing table is replaced only when asked, and in one step", "[writer]") {
  const tests::TempDirectory directory;
  const TableHeader plan = make_plan(300);
  const std::vector<uint8_t> image = tests::synthetic_image(plan);
  directory.write("t", "old");
  TableWriterOptions o = options("s");
  CHECK(TableWriter::create(directory.file("t"), plan, o).status().code() == Code::kAlreadyExists);
  o.replace = true;
  auto writer = TableWriter::create(directory.file("t"), plan, o).value();
  for (int64_t i = 0; i < plan.extents(); ++i) {
    REQUIRE(writer->write_extent(i, image.data() + plan.extent_at(i)).ok());
  }
  CHECK(tests::file_bytes(directory.file("t")) == "old");
  REQUIRE(writer->finish().ok());
  CHECK(TableFile::open(directory.file("t")).ok());
}

// Runs in a child process of its own, because limits and signals are the process's.
int in_child(const std::function<int()>& body) {
  std::cout.flush();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

TEST_CASE("a full disk is an error that keeps what was written", "[writer]") {
  const tests::TempDirectory directory;
  const TableHeader plan = make_plan(4000);
  const std::string wanted = wanted_bytes(directory, plan);
  const std::vector<uint8_t> image = tests::synthetic_image(plan);
  const std::string path = directory.file("t");
  TableWriterOptions o = options("s");
  const auto limit_files = [](int64_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{static_cast<rlim_t>(bytes), static_cast<rlim_t>(bytes)};
    return ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
  };
  SECTION("found before anything is written") {
    CHECK(in_child([&] {
            if (!limit_files(plan.file_bytes() - 1)) return 10;
            const Status status = TableWriter::create(path, plan, o).status();
            if (status.code() != Code::kResourceExhausted) return 11;
            return status.message().find(path) == std::string::npos ? 12 : 0;
          }) == 0);
    CHECK(nothing_left_beside(directory, "t"));
  }
  SECTION("found while writing") {
    // The unfinished file exists with its size; then the limit cuts off its second half.
    CHECK(in_child([&] {
            auto writer = TableWriter::create(path, plan, o);
            if (!writer.ok()) return 10;
            if (!limit_files(plan.file_bytes() / 2)) return 11;
            int64_t done = 0;
            for (; done < plan.extents(); ++done) {
              const Status status =
                  writer.value()->write_extent(done, image.data() + plan.extent_at(done));
              if (status.ok()) continue;
              if (status.code() != Code::kResourceExhausted) return 12;
              break;
            }
            if (done < 2 || done + 2 > plan.extents()) return 13;
            return writer.value()->commit().ok() ? 0 : 14;
          }) == 0);
    CHECK(!TableFile::open(path).ok());
    auto writer = TableWriter::create(path, plan, o).value();
    CHECK(writer->extents_resumed() >= 2);
    for (int64_t i = 0; i < plan.extents(); ++i) {
      if (writer->written(i)) continue;
      REQUIRE(writer->write_extent(i, image.data() + plan.extent_at(i)).ok());
    }
    REQUIRE(writer->finish().ok());
    CHECK(tests::file_bytes(path) == wanted);
  }
}

// A child writes; it is killed at a random moment; the next one goes on. Whatever the moment,
// either there is no file that opens, or the whole one.
TEST_CASE("kill -9 at random moments, then resume, gives the undisturbed file", "[writer]") {
  const uint64_t seed = 424242;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const tests::TempDirectory directory;
  const TableHeader plan = make_plan(20000);  // 5 MB
  const std::string wanted = wanted_bytes(directory, plan);
  const std::vector<uint8_t> image = tests::synthetic_image(plan);
  const std::string path = directory.file("t");
  const auto convert = [&] {
    auto writer = TableWriter::create(path, plan, options("s"));
    if (!writer.ok()) return writer.status().code() == Code::kAlreadyExists ? 0 : 1;
    for (int64_t i = 0; i < plan.extents(); ++i) {
      if (writer.value()->written(i)) continue;
      if (!writer.value()->write_extent(i, image.data() + plan.extent_at(i)).ok()) return 2;
    }
    return writer.value()->finish().ok() ? 0 : 3;
  };
  int killed = 0;
  const int rounds = tests::kSanitized ? 10 : 60;
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    std::filesystem::remove(path);
    for (int attempt = 0;; ++attempt) {
      REQUIRE(attempt < 1000);
      std::cout.flush();
      const pid_t child = ::fork();
      if (child == 0) ::_exit(convert());
      // Later and later, so that every conversion ends at some time.
      const int64_t most_us = 2000 + 3000 * attempt;
      std::this_thread::sleep_for(
          std::chrono::microseconds(random() % static_cast<uint64_t>(most_us)));
      ::kill(child, SIGKILL);
      int state = 0;
      REQUIRE(::waitpid(child, &state, 0) == child);
      const auto file = TableFile::open(path);
      const bool whole = file.ok();
      if (whole) {
        REQUIRE(tests::file_bytes(path) == wanted);
      } else {
        REQUIRE(file.status().code() == Code::kNotFound);
      }
      if (WIFEXITED(state)) {
        REQUIRE(WEXITSTATUS(state) == 0);
        REQUIRE(whole);
        break;
      }
      ++killed;
      if (whole) {  // killed between the rename and its end
        REQUIRE(TableWriter::discard(path).ok());
        break;
      }
    }
    REQUIRE(nothing_left_beside(directory, "t"));
  }
  CAPTURE(killed);
  CHECK(killed >= rounds);
}

}  // namespace
}  // namespace engram::memory
