// Row ids that the device computes from windows of tokens against those of the host, bit for bit.
#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/ngram.h"
#include "memory/device/device_cuda.h"
#include "memory/table/row_decode_cuda.h"
#include "memory/table/row_hash_cuda.h"
#include "tests/support/gpu_or_note.h"
#include "tests/support/hash_configs.h"
#include "tests/support/random_geometry.h"

namespace engram::engine {
namespace {

using memory::Buffer;
using memory::Device;
using memory::DeviceRowHash;
using memory::kNoToken;
using memory::kWindow;
using memory::RowKernel;
using memory::TableGeometry;
using tests::demo_config;
using tests::v41_config;
using Numbers = std::vector<int64_t>;

// The windows of all positions of a sequence, one after the other.
std::vector<int32_t> windows_of(const std::vector<int32_t>& ids) {
  std::vector<int32_t> windows;
  for (int64_t t = 0; t < std::ssize(ids); ++t) {
    for (int64_t at = t + 1 - kWindow; at <= t; ++at) {
      windows.push_back(at < 0 ? kNoToken : ids[static_cast<size_t>(at)]);
    }
  }
  return windows;
}

Numbers rows_of(const TableGeometry& g, const std::vector<int32_t>& ids) {
  Numbers rows(ids.size() * g.moduli.size());
  hash_rows(g, ids, 0, std::ssize(ids), rows.data());
  return rows;
}

class Rig {
 public:
  explicit Rig(Device& device) : device_(device), stream_(device.make_stream("hash")) {}

  memory::Stream& stream() { return *stream_; }

  template <typename T>
  Buffer upload(const std::vector<T>& values) {
    const int64_t bytes = std::ssize(values) * static_cast<int64_t>(sizeof(T));
    Buffer buffer = device_.allocate("values", bytes).value();
    device_.copy(*stream_, buffer.data(), values.data(), bytes);
    stream_->synchronize();
    return buffer;
  }
  template <typename T>
  std::vector<T> download(const void* from, size_t count) {
    std::vector<T> values(count);
    device_.copy(*stream_, values.data(), from, static_cast<int64_t>(count * sizeof(T)));
    stream_->synchronize();
    return values;
  }
  DeviceRowHash hash(const TableGeometry& g) {
    return DeviceRowHash::make(device_, *stream_, g).value();
  }
  Numbers hashed(const TableGeometry& g, const std::vector<int32_t>& windows) {
    const DeviceRowHash constants = hash(g);
    const Buffer from = upload(windows);
    const int64_t tokens = std::ssize(windows) / kWindow;
    const size_t rows = static_cast<size_t>(tokens * g.columns());
    const Buffer ids = device_.allocate("ids", std::ssize(windows) * g.columns() * 8).value();
    memory::enqueue_hash_rows(
        *stream_, constants.hash(), g.columns(), from.as<int32_t>(), tokens, ids.as<int64_t>());
    return download<int64_t>(ids.data(), rows);
  }

 private:
  Device& device_;
  std::unique_ptr<memory::Stream> stream_;
};

TEST_CASE("device hash: the published row ids of every family", "[ngram]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  Rig rig(*device);
  const auto check = [&](const TableGeometry& g, const std::vector<int32_t>& ids) {
    CHECK(rig.hashed(g, windows_of(ids)) == rows_of(g, ids));
  };
  const auto demo = derive_geometries(demo_config(99092), memory::RowCodec::kBf16, 2);
  check(demo[0], {0, 1, 2, 99091, 12345, 54321});
  check(demo[1], {0, 1, 2, 99091, 12345, 54321});
  const auto v41 = derive_v41_geometries(v41_config(), 2);
  check(v41[0], {0, 1, 2, 99091, 12345, 54321, 7});
  check(v41[1], {0, 1, 2, 99091, -1, 54321, 7});
  check(derive_ple_geometries(tests::qwen_hash())[0], {9707, 11, 1879, 248044, 0, 248319});
  check(derive_longcat_geometry(tests::longcat_hash()), {11, 523, 2, 44, 130000, 7, 88, 4});
  // Of them one as it was published.
  const Numbers first = rig.hashed(v41[0], windows_of({0}));
  CHECK(
      Numbers(first.begin(), first.begin() + 4) == Numbers{5702652, 24393184, 39183301, 61503783});
}

TEST_CASE("device hash: all mixes and boundaries equal the host's", "[ngram]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  Rig rig(*device);
  const uint32_t seed = Catch::rngSeed() == 0 ? 20261122u : Catch::rngSeed();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 150; ++round) {
    const TableGeometry g = tests::random_geometry(random, {.most_heads = 3, .more_sizes = 100000});
    // Small ids for boundaries; large and negative ones, whose products wrap.
    std::vector<int32_t> ids(1 + random() % 40);
    for (int32_t& id : ids) {
      id = random() % 8 == 0 ? static_cast<int32_t>(random())
                             : static_cast<int32_t>(random() % 12) - 1;
      if (id == kNoToken) id = 0;
    }
    CAPTURE(round, memory::mix_name(g.mix), memory::boundary_name(g.boundary), ids);
    REQUIRE(rig.hashed(g, windows_of(ids)) == rows_of(g, ids));
  }
}

TEST_CASE("device hash: sampled tokens move the windows", "[ngram]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  Rig rig(*device);
  constexpr int64_t kSequences = 70;
  constexpr int64_t kSteps = 20;
  std::mt19937 random(9);
  std::vector<int32_t> canonical(50);
  for (int32_t& id : canonical) id = static_cast<int32_t>(random() % 40) - 2;
  for (const bool pass_through : {false, true}) {
    const TokenMap map = {canonical, 5, pass_through};
    const Buffer canonical_there = rig.upload(canonical);
    const memory::DeviceTokenMap there = {
        canonical_there.as<int32_t>(), static_cast<int32_t>(canonical.size()), map.pad,
        pass_through};
    const Buffer windows =
        rig.upload(std::vector<int32_t>(static_cast<size_t>(kSequences * kWindow), kNoToken));
    std::vector<std::vector<int32_t>> texts(kSequences);
    for (int64_t step = 0; step < kSteps; ++step) {
      std::vector<int32_t> sampled(kSequences);
      for (int32_t& id : sampled) id = static_cast<int32_t>(random() % 60);
      const Buffer tokens = rig.upload(sampled);
      memory::enqueue_push_tokens(
          rig.stream(), there, tokens.as<int32_t>(), kSequences, windows.as<int32_t>());
      rig.stream().synchronize();
      for (size_t i = 0; i < texts.size(); ++i) texts[i].push_back(map.of(sampled[i]));
    }
    const auto got =
        rig.download<int32_t>(windows.data(), static_cast<size_t>(kSequences * kWindow));
    for (size_t i = 0; i < texts.size(); ++i) {
      CAPTURE(i, pass_through);
      const std::vector<int32_t> wanted(texts[i].end() - kWindow, texts[i].end());
      CHECK(std::equal(
          wanted.begin(), wanted.end(), got.begin() + static_cast<int64_t>(i) * kWindow));
    }
  }
}

TEST_CASE("device hash: a gather from windows is the gather of their row ids", "[ngram]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  Rig rig(*device);
  constexpr uint32_t kSeed = 3;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  PeftHash peft;
  peft.layers = {0};
  peft.orders = {2, 3};
  peft.sizes = {500, 700};
  peft.heads = 4;
  peft.ids = 300;
  peft.row_width = 64;
  TableGeometry g = derive_peft_geometries(peft)[0];
  g.codec = memory::RowCodec::kBf16;
  const int64_t value_bytes = g.value_bytes();
  const Buffer table = device->allocate_pinned("table", g.rows * value_bytes).value();
  // Finite numbers only, so that equal rows have equal bits.
  std::generate_n(
      table.as<uint16_t>(), g.rows * value_bytes / 2, [&] { return random() & 0x3fffu; });
  std::vector<int32_t> ids(90);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 300);
  const Buffer windows = rig.upload(windows_of(ids));
  const Buffer row_ids = rig.upload(rows_of(g, ids));
  std::vector<int32_t> order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  const Buffer slots = rig.upload(order);
  const DeviceRowHash hash = rig.hash(g);
  const size_t elements = ids.size() * static_cast<size_t>(g.vector_width());
  for (const RowKernel kernel : {RowKernel::kLoads, RowKernel::kAsync, RowKernel::kBulk}) {
    std::vector<uint16_t> got[2];
    for (const bool fused : {false, true}) {
      const Buffer out = device->allocate("out", static_cast<int64_t>(elements * 2)).value();
      memory::RowGather gather{
          .geometry = &g,
          .place = {.values = table.as<uint8_t>(), .value_stride = value_bytes},
          .slots = slots.as<int32_t>(),
          .tokens = std::ssize(ids),
          .out = memory::make_view(
              out.data(), memory::DType::kBf16, std::ssize(ids), g.vector_width()),
          .kernel = kernel};
      if (fused) {
        gather.hash = &hash.hash();
        gather.windows = windows.as<int32_t>();
      } else {
        gather.ids = row_ids.as<int64_t>();
      }
      memory::enqueue_decode_rows(rig.stream(), gather);
      got[fused ? 1 : 0] = rig.download<uint16_t>(out.data(), elements);
    }
    CHECK(got[0] == got[1]);
    CHECK(std::ranges::count(got[1], uint16_t{0}) < std::ssize(got[1]) / 2);
  }
}

}  // namespace
}  // namespace engram::engine
