#include "tests/bench/gpu/rig.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <utility>

#include "memory/device/device_cuda.h"
#include "tests/support/or_die.h"

namespace engram::bench::gpu {
namespace {

std::unique_ptr<memory::Device> open_device() {
  memory::Result<std::unique_ptr<memory::Device>> device = memory::make_cuda_device(0);
  if (device.ok()) return std::move(device).value();
  std::printf("SKIPPED: no CUDA device (%s)\n", device.status().message().c_str());
  std::fflush(stdout);
  std::exit(1);
}

}  // namespace

Rig::Rig(const engine::OpsLimits& limits) : device_(open_device()), facts_(gpu_facts()) {
  stream_ = device_->make_stream("bench");
  side_ = device_->make_stream("side");
  if (limits.max_tokens > 0) ops_ = tests::value_or_die(engine::make_cuda_ops(*device_, limits));
}

Rig::~Rig() {
  stream_->synchronize();
  side_->synchronize();
  tests::ok_or_die(device_->failure());
}

void* Rig::allocate(int64_t bytes) {
  buffers_.push_back(tests::value_or_die(device_->allocate("benchmark", bytes)));
  return buffers_.back().data();
}

void* Rig::pinned(int64_t bytes) {
  buffers_.push_back(tests::value_or_die(device_->allocate_pinned("benchmark", bytes)));
  return buffers_.back().data();
}

View Rig::random(DType dtype, int64_t rows, int64_t cols, float scale) {
  const View view =
      memory::make_view(allocate(rows * cols * memory::dtype_bytes(dtype)), dtype, rows, cols);
  if (dtype == DType::kF32) {
    enqueue_fill_f32(*stream_, view.data, rows * cols, scale, seed_++);
  } else if (dtype == DType::kF8E4m3) {
    enqueue_fill_e4m3(*stream_, view.data, rows * cols, scale, seed_++);
  } else {
    ENGRAM_CHECK(dtype == DType::kBf16);
    enqueue_fill_bf16(*stream_, view.data, rows * cols, scale, seed_++);
  }
  return view;
}

engine::Matrix Rig::weight(int64_t rows, int64_t cols) {
  ENGRAM_CHECK(ops_->matrix_bytes(DType::kBf16, rows, cols) == 2 * rows * cols);
  const float scale = std::sqrt(3.f / static_cast<float>(cols));
  return {random(DType::kBf16, rows, cols, scale).data, rows, cols, DType::kBf16};
}

const int32_t* Rig::upload(const std::vector<int32_t>& values) {
  const int64_t bytes = std::ssize(values) * 4;
  void* data = allocate(bytes);
  device_->copy(*stream_, data, values.data(), bytes);
  stream_->synchronize();
  return static_cast<const int32_t*>(data);
}

engine::Batch Rig::batch(int64_t sequences, int64_t first, int64_t count) {
  const int64_t pages = (first + count + kPageTokens - 1) / kPageTokens;
  std::vector<int32_t> table(static_cast<size_t>(sequences * pages));
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937_64(seed_++));
  std::vector<int32_t> positions, slots, sequence_of, begins{0};
  for (int64_t s = 0; s < sequences; ++s) {
    for (int64_t p = first; p < first + count; ++p) {
      const int32_t page = table[static_cast<size_t>(s * pages + p / kPageTokens)];
      positions.push_back(static_cast<int32_t>(p));
      slots.push_back(page * kPageTokens + static_cast<int32_t>(p % kPageTokens));
      sequence_of.push_back(static_cast<int32_t>(s));
    }
    begins.push_back(static_cast<int32_t>(positions.size()));
  }
  engine::Batch batch;
  batch.tokens = sequences * count;
  batch.sequences = sequences;
  batch.max_pages = pages;
  batch.positions = upload(positions);
  batch.slots = upload(slots);
  batch.sequence_of = upload(sequence_of);
  batch.token_begin = upload(begins);
  batch.page_table = upload(table);
  return batch;
}

}  // namespace engram::bench::gpu
