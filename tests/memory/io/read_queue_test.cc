// Both backends against the bytes that were written.
#include "memory/io/read_queue.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/aligned_bytes.h"
#include "tests/support/dies.h"
#include "tests/support/faulty_reads.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr int64_t kBlock = 4096;

std::string random_bytes(int64_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text(static_cast<size_t>(bytes), '\0');
  for (size_t i = 0; i + 8 <= text.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(text.data() + i, &word, 8);
  }
  return text;
}

// Null, once it has said why, where the backend cannot be had.
std::unique_ptr<ReadQueue> queue_under_test(const ReadQueueOptions& options) {
  Result<std::unique_ptr<ReadQueue>> queue = make_read_queue(options);
  if (!queue.ok() && options.backend == IoBackend::kUring) {
    WARN("SKIPPED: " << queue.status().to_string());
    return nullptr;
  }
  REQUIRE(queue.ok());
  return std::move(queue).value();
}

std::vector<ReadDone> drain(ReadQueue& queue) {
  std::vector<ReadDone> done;
  queue.wait(queue.outstanding(), &done);
  return done;
}

struct RandomReads {
  int64_t file_blocks = 256;
  int64_t blocks_most = 16;
  int reads = 400;
  uint64_t seed = 1;
};

// Reads of random places, all submitted at once; every byte is compared.
void check_random_reads(
    ReadQueue& queue, const DirectFile& file, const std::string& content, const RandomReads& plan) {
  std::mt19937_64 random(plan.seed);
  std::vector<tests::AlignedBytes> buffers;
  std::vector<ReadRequest> requests;
  for (int i = 0; i < plan.reads; ++i) {
    const int64_t blocks = 1 + static_cast<int64_t>(random() % plan.blocks_most);
    const int64_t first = static_cast<int64_t>(random() % (plan.file_blocks - blocks + 1));
    buffers.emplace_back(blocks * kBlock);
    requests.push_back({
        .file = &file,
        .offset = first * kBlock,
        .bytes = blocks * kBlock,
        .to = buffers.back().data(),
        .tag = static_cast<uint64_t>(i) * 3,
    });
    queue.submit(requests.back());
  }
  REQUIRE(queue.outstanding() == plan.reads);
  std::vector<bool> seen(requests.size());
  while (queue.outstanding() > 0) {
    std::vector<ReadDone> done;
    const int64_t least = 1 + static_cast<int64_t>(random() % 8);
    queue.wait(least, &done);
    REQUIRE((static_cast<int64_t>(done.size()) >= least || queue.outstanding() == 0));
    for (const ReadDone& one : done) {
      REQUIRE(one.status.ok());
      REQUIRE(one.tag % 3 == 0);
      const size_t i = one.tag / 3;
      REQUIRE_FALSE(seen[i]);
      seen[i] = true;
      REQUIRE(
          std::memcmp(
              requests[i].to, content.data() + requests[i].offset,
              static_cast<size_t>(requests[i].bytes)) == 0);
    }
  }
  REQUIRE(std::all_of(seen.begin(), seen.end(), [](bool s) { return s; }));
}

TEST_CASE("unaligned requests are bugs", "[read_queue]") {
  tests::TempDirectory directory;
  directory.write("a", std::string(4 * kBlock, 'x'));
  const auto submit = [&](int64_t offset, int64_t bytes, int64_t shift) {
    const Result<DirectFile> file = DirectFile::open(directory.file("a"));
    const Result<std::unique_ptr<ReadQueue>> queue = make_read_queue(IoBackend::kThreads, 1);
    const tests::AlignedBytes to(4 * kBlock);
    queue.value()->submit(
        {.file = &file.value(), .offset = offset, .bytes = bytes, .to = to.data() + shift});
  };
  CHECK_FALSE(tests::dies([&] { submit(kBlock, kBlock, 0); }));
  CHECK(tests::dies([&] { submit(512, kBlock, 0); }));
  CHECK(tests::dies([&] { submit(-kBlock, kBlock, 0); }));
  CHECK(tests::dies([&] { submit(0, 100, 0); }));
  CHECK(tests::dies([&] { submit(0, 0, 0); }));
  CHECK(tests::dies([&] { submit(0, kBlock, 8); }));
}

TEST_CASE("random reads bring exactly the bytes of the file", "[read_queue]") {
  tests::TempDirectory directory;
  const RandomReads plan;
  const std::string content = random_bytes(plan.file_blocks * kBlock, 5);
  directory.write("a", content);
  for (const bool buffered : {false, true}) {
    const std::string path = directory.file("a");
    const Result<DirectFile> file =
        buffered ? DirectFile::open_buffered(path) : DirectFile::open(path);
    REQUIRE(file.ok());
    for (const IoBackend backend : {IoBackend::kUring, IoBackend::kThreads}) {
      // The piece is smaller than most reads in half of the cases, so that they are continued.
      for (const int64_t piece : {kBlock, 3 * kBlock, int64_t{1} << 20}) {
        for (const int depth : {1, 3, 64}) {
          std::unique_ptr<ReadQueue> queue =
              queue_under_test({.backend = backend, .depth = depth, .piece_bytes = piece});
          if (queue == nullptr) continue;
          CAPTURE(buffered, queue->name(), piece, depth, plan.seed);
          CHECK(queue->depth() == depth);
          check_random_reads(*queue, file.value(), content, plan);
        }
      }
    }
  }
}

TEST_CASE("a queue is used again and again", "[read_queue]") {
  tests::TempDirectory directory;
  const std::string content = random_bytes(64 * kBlock, 6);
  directory.write("a", content);
  const Result<DirectFile> file = DirectFile::open(directory.file("a"));
  REQUIRE(file.ok());
  for (const IoBackend backend : {IoBackend::kUring, IoBackend::kThreads}) {
    std::unique_ptr<ReadQueue> queue = queue_under_test({.backend = backend, .depth = 8});
    if (queue == nullptr) continue;
    std::vector<ReadDone> done;
    queue->wait(5, &done);  // nothing to wait for
    CHECK(done.empty());
    for (uint64_t seed = 1; seed <= 50; ++seed) {
      CAPTURE(queue->name(), seed);
      check_random_reads(
          *queue, file.value(), content,
          {.file_blocks = 64, .blocks_most = 2, .reads = static_cast<int>(seed), .seed = seed});
    }
    // Polling alone gets there too.
    const tests::AlignedBytes to(kBlock);
    queue->submit({.file = &file.value(), .offset = 0, .bytes = kBlock, .to = to.data()});
    while (done.empty()) queue->wait(0, &done);
    CHECK(std::memcmp(to.data(), content.data(), kBlock) == 0);
  }
}

TEST_CASE("a queue may be destroyed with reads in flight", "[read_queue]") {
  tests::TempDirectory directory;
  directory.write("a", std::string(1024 * kBlock, 'x'));
  const Result<DirectFile> file = DirectFile::open(directory.file("a"));
  REQUIRE(file.ok());
  for (const IoBackend backend : {IoBackend::kUring, IoBackend::kThreads}) {
    for (int round = 0; round < 20; ++round) {
      const std::unique_ptr<tests::AlignedBytes> to =
          std::make_unique<tests::AlignedBytes>(1024 * kBlock);
      std::unique_ptr<ReadQueue> queue = queue_under_test({.backend = backend, .depth = 16});
      if (queue == nullptr) break;
      for (int64_t i = 0; i < 128; ++i) {
        queue->submit({
            .file = &file.value(),
            .offset = i * 8 * kBlock,
            .bytes = 8 * kBlock,
            .to = to->data() + i * 8 * kBlock,
        });
      }
      std::vector<ReadDone> done;
      queue->wait(round % 4, &done);
      queue.reset();
      // Nobody writes any more: what is set now stays.
      std::memset(to->data(), 0x11, static_cast<size_t>(to->bytes()));
      CHECK(std::count(to->data(), to->data() + to->bytes(), 0x11) == to->bytes());
    }
  }
}

TEST_CASE("a file that is cut while open is DATA_LOSS where it ends", "[read_queue]") {
  tests::TempDirectory directory;
  const std::string path = directory.file("a");
  for (const bool buffered : {false, true}) {
    for (const IoBackend backend : {IoBackend::kUring, IoBackend::kThreads}) {
      directory.write("a", std::string(16 * kBlock, 'x'));
      const Result<DirectFile> file =
          buffered ? DirectFile::open_buffered(path) : DirectFile::open(path);
      REQUIRE(file.ok());
      std::unique_ptr<ReadQueue> queue = queue_under_test({.backend = backend, .depth = 4});
      if (queue == nullptr) continue;
      CAPTURE(buffered, queue->name());
      std::filesystem::resize_file(path, 5 * kBlock + 100);
      const tests::AlignedBytes to(16 * kBlock);
      for (uint64_t i = 0; i < 4; ++i) {
        const int64_t offset = static_cast<int64_t>(i) * 4 * kBlock;
        queue->submit({
            .file = &file.value(),
            .offset = offset,
            .bytes = 4 * kBlock,
            .to = to.data() + offset,
            .tag = i,
        });
      }
      for (const ReadDone& done : drain(*queue)) {
        CAPTURE(done.tag, done.status.to_string());
        CHECK(done.status.code() == (done.tag == 0 ? Code::kOk : Code::kDataLoss));
        if (done.tag == 1) {
          CHECK_THAT(
              done.status.message(),
              Catch::Contains(path + ": ended at byte 20580, expected 32768"));
        }
      }
    }
  }
}

TEST_CASE("auto takes a backend that works and names it", "[read_queue]") {
  const Result<std::unique_ptr<ReadQueue>> ring = make_read_queue(IoBackend::kUring, 4);
  const Result<std::unique_ptr<ReadQueue>> best = make_read_queue(IoBackend::kAuto, 4);
  REQUIRE(best.ok());
  if (ring.ok()) {
    CHECK(best.value()->name() == "io_uring");
  } else {
    CHECK(ring.status().code() == Code::kFailedPrecondition);
    CHECK(best.value()->name() == "threads (" + ring.status().message() + ")");
  }
  CHECK(make_read_queue(IoBackend::kThreads, 1000).value()->depth() == 64);
}

// Runs `code` in a child process that a sandbox keeps from io_uring; its exit status, 77 when there
// are no sandboxes here.
template <typename Code>
int without_uring(const Code& code) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto load_number = static_cast<uint32_t>(offsetof(seccomp_data, nr));
    sock_filter rules[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, load_number},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, __NR_io_uring_setup},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    const sock_fprog program{.len = 4, .filter = rules};
    const bool sandboxed = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    ::_exit(sandboxed ? code() : 77);
  }
  int state = 0;
  REQUIRE(child > 0);
  REQUIRE(::waitpid(child, &state, 0) == child);
  return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

TEST_CASE("where a sandbox forbids io_uring, auto reads without it and says why", "[read_queue]") {
  tests::TempDirectory directory;
  const std::string content = random_bytes(4 * kBlock, 8);
  directory.write("a", content);
  const int status = without_uring([&] {
    if (make_read_queue(IoBackend::kUring, 4).status().code() != Code::kFailedPrecondition)
      return 1;
    const Result<DirectFile> file = DirectFile::open(directory.file("a"));
    Result<std::unique_ptr<ReadQueue>> queue = make_read_queue(IoBackend::kAuto, 1);
    if (!file.ok() || !queue.ok()) return 2;
    if (queue.value()->name() != "threads (io_uring: Operation not permitted)") return 3;
    const tests::AlignedBytes to(4 * kBlock);
    queue.value()->submit(
        {.file = &file.value(), .offset = 0, .bytes = 4 * kBlock, .to = to.data()});
    if (!drain(*queue.value())[0].status.ok()) return 4;
    return std::memcmp(to.data(), content.data(), content.size()) == 0 ? 0 : 5;
  });
  if (status == 77) {
    WARN("SKIPPED: no sandbox can be set up here");
    return;
  }
  CHECK(status == 0);
}

TEST_CASE("the injector of faults hurts what it says and nothing else", "[read_queue]") {
  tests::TempDirectory directory;
  const RandomReads plan;
  const std::string content = random_bytes(plan.file_blocks * kBlock, 7);
  directory.write("a", content);
  const Result<DirectFile> file = DirectFile::open(directory.file("a"));
  REQUIRE(file.ok());
  const auto faulty = [](const tests::Faults& faults) {
    return tests::FaultyReads(make_read_queue(IoBackend::kAuto, 16).value(), faults);
  };
  tests::FaultyReads harmless = faulty({.seed = 3, .pieces = 0.5, .delay_us_most = 300});
  check_random_reads(harmless, file.value(), content, plan);

  const tests::AlignedBytes to(plan.file_blocks * kBlock);
  const auto read_all = [&](tests::FaultyReads queue) {
    for (int64_t i = 0; i < plan.file_blocks; ++i) {
      queue.submit({
          .file = &file.value(),
          .offset = i * kBlock,
          .bytes = kBlock,
          .to = to.data() + i * kBlock,
          .tag = static_cast<uint64_t>(i),
      });
    }
    return drain(queue);
  };
  const tests::Faults here{.from = 10 * kBlock, .to = 12 * kBlock};
  tests::Faults faults = here;
  faults.error = 1.;
  for (const ReadDone& done : read_all(faulty(faults))) {
    CHECK(done.status.ok() == (done.tag != 10 && done.tag != 11));
  }
  faults = here;
  faults.flip = 1.;
  for (const ReadDone& done : read_all(faulty(faults))) CHECK(done.status.ok());
  int64_t wrong = 0;
  for (int64_t i = 0; i < to.bytes(); ++i) {
    const uint8_t difference = to.data()[i] ^ static_cast<uint8_t>(content[static_cast<size_t>(i)]);
    if (difference == 0) continue;
    ++wrong;
    CHECK((difference & (difference - 1)) == 0);
    CHECK((i / kBlock == 10 || i / kBlock == 11));
  }
  CHECK(wrong == 2);
}

}  // namespace
}  // namespace engram::memory
