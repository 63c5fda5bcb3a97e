// Hashing token ids to rows, the part of the serving path that is the processor's own: one token
// at a time, as decoding does, and a chunk of a prompt, for every family. Beside it, in the same
// run, a plain loop that takes the same number of remainders of numbers at hand and stores them.
#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/model/ngram.h"
#include "tests/bench/bench.h"
#include "tests/support/hash_configs.h"

namespace engram::bench {
namespace {

using memory::TableGeometry;

__extension__ using Uint128 = unsigned __int128;

class HashBench {
 public:
  HashBench(Suite& suite, std::string name, TableGeometry geometry, int32_t vocabulary)
      : suite_(suite), name_(std::move(name)), g_(std::move(geometry)) {
    std::mt19937 random(1);
    ids_.resize(static_cast<size_t>(suite.options().smoke ? 64 : 4096));
    for (int32_t& id : ids_) {
      id = static_cast<int32_t>(random() % static_cast<uint32_t>(vocabulary));
    }
    for (const int32_t id : ids_) {
      numbers_.push_back(static_cast<uint64_t>(id) * 0x9e3779b97f4a7c15 >> 1);
    }
    rows_.resize(ids_.size() * g_.moduli.size());
  }

  void add_cases() {
    add("remainders only", Peak::kNone, [this] { take_remainders(); });
    add("chunks of 512", Peak::kCase, [this] { hash_chunks(512); });
    add("one at a time", Peak::kCase, [this] { hash_chunks(1); });
  }

 private:
  void add(const std::string& what, Peak peak, std::function<void()> run) {
    // A "byte" is a row id, so that rates are row ids per nanosecond.
    suite_.add(
        {.name = name_ + " " + what,
         .bytes = static_cast<int64_t>(rows_.size()),
         .repeats = static_cast<int64_t>(ids_.size()),
         .peak = peak,
         .against = name_ + " remainders only",
         .run = std::move(run),
         .hash = [this] {
           return hash_bytes(rows_.data(), static_cast<int64_t>(rows_.size() * sizeof(int64_t)));
         }});
  }

  void hash_chunks(int64_t chunk) {
    const int64_t tokens = static_cast<int64_t>(ids_.size());
    for (int64_t t = 0; t < tokens; t += chunk) {
      const int64_t end = std::min(tokens, t + chunk);
      engine::hash_rows(g_, ids_, t, end, rows_.data() + t * g_.columns());
    }
  }

  // A column at a time over blocks of numbers, its constants in registers.
  void take_remainders() {
    constexpr size_t kBlock = 64;
    const size_t columns = g_.moduli.size();
    std::array<uint64_t, kBlock> numbers;
    for (size_t first = 0; first < ids_.size(); first += kBlock) {
      const size_t count = std::min(kBlock, ids_.size() - first);
      std::copy_n(numbers_.begin() + static_cast<int64_t>(first), count, numbers.begin());
      for (size_t c = 0; c < columns; ++c) {
        const uint64_t modulus = static_cast<uint64_t>(g_.moduli[c]);
        const uint64_t reciprocal = ~uint64_t{0} / modulus;
        int64_t* to = rows_.data() + first * columns + c;
        for (size_t i = 0; i < count; ++i, to += columns) {
          const uint64_t x = numbers[i];
          const uint64_t quotient = static_cast<uint64_t>((Uint128{x} * reciprocal) >> 64);
          const uint64_t rest = x - quotient * modulus;
          *to = static_cast<int64_t>(std::min(rest, rest - modulus));
        }
      }
    }
  }

  Suite& suite_;
  std::string name_;
  TableGeometry g_;
  std::vector<int32_t> ids_;
  std::vector<uint64_t> numbers_;
  std::vector<int64_t> rows_;
};

int run(const Options& options) {
  Suite suite(options);
  std::vector<std::unique_ptr<HashBench>> benches;
  const auto add = [&](const char* name, TableGeometry g, int32_t vocabulary) {
    benches.push_back(std::make_unique<HashBench>(suite, name, std::move(g), vocabulary));
    benches.back()->add_cases();
  };
  const auto demo = derive_geometries(tests::demo_config(99092), memory::RowCodec::kBf16, 2);
  add("paper", demo[0], 99092);
  add("v4.1", derive_v41_geometries(tests::v41_config(), 2)[0], 99092);
  add("qwen", derive_ple_geometries(tests::qwen_hash())[0], 248320);
  add("longcat", derive_longcat_geometry(tests::longcat_hash()), 131072);
  return suite.run();
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(engram::bench::parse_options(argc, argv));
}
