// A device, its ops and one stream, and the moving of test data to and from it.
//
// Tests are written against Device and Ops only and run once for each of backends(). Values are
// rounded to the dtype on the host, so that the reference sees exactly what the device sees.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/ops/ops.h"
#include "memory/device/device.h"
#include "tests/support/op_reference.h"

namespace engram::testing {

using memory::DType;
using memory::View;
using reference::Rows;

struct Backend {
  std::string name;
  int threads = 1;
  int64_t simd = 0;  // Highway's bit of the vector target; 0: the best
};
// "cpu" with one thread, with more threads than a small machine has cores, and on each lesser
// vector target of the machine; or "cuda" alone, in programs of the CUDA backend.
std::vector<Backend> backends();

// What a float becomes in this dtype.
double rounded(double value, DType dtype);
Rows rounded(const Rows& x, DType dtype);
// Normal values with the given standard deviation, rounded.
Rows random_rows(std::mt19937_64& random, DType dtype, int64_t rows, int64_t cols, double scale);

// What a cache of this dtype keeps of x [T, heads * width]: e4m3 with a scale per token and head.
Rows as_cached(const Rows& x, DType cache, int64_t width);
// The scale byte of one such head and its codes, by the rule of engine::KvLayer; loops over f64.
uint8_t encode_head(const double* head, int64_t width, uint8_t* codes);

// An f8_e4m3 weight; scales as engine::Matrix has them.
struct Fp8Weight {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t scale_rows = 128;
  std::vector<uint8_t> codes;
  std::vector<float> scales;

  Rows values() const;  // exact
};
// Codes near a normal distribution, with every finite code among them if there is room; scales of
// different binades.
Fp8Weight random_fp8(std::mt19937_64& random, int64_t rows, int64_t cols, int64_t scale_rows);

// Tokens of several sequences and the pages they live in.
class TestBatch {
 public:
  explicit TestBatch(int page_tokens) : page_tokens_(page_tokens) {}
  // `count` tokens from position `first`; pages[i] holds the positions from i * page_tokens.
  void add(int64_t first, int64_t count, const std::vector<int32_t>& pages);

  const std::vector<int32_t>& positions() const { return positions_; }
  const std::vector<int32_t>& slots() const { return slots_; }
  int64_t tokens() const { return static_cast<int64_t>(positions_.size()); }

 private:
  friend class OpRig;
  int page_tokens_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> sequence_of_;
  std::vector<int32_t> token_begin_{0};
  std::vector<std::vector<int32_t>> pages_;
};

// Pages in an order that has nothing to do with the positions.
std::vector<int32_t> shuffled_pages(std::mt19937_64& random, int64_t pages);

// One backend at a time: the vector target is the process's.
class OpRig {
 public:
  explicit OpRig(const Backend& backend) : OpRig(backend, 16) {}
  // With scratch memory for sampling from so many ids.
  OpRig(const Backend& backend, int64_t max_vocab);

  engine::Ops& ops() { return *ops_; }
  memory::Stream& stream() { return *stream_; }

  // New device memory with these values, rounded to dtype.
  View put(const Rows& rows, DType dtype);
  View filled(DType dtype, int64_t rows, int64_t cols, double value);
  const int32_t* put(const std::vector<int32_t>& values);
  void* put(const std::vector<uint8_t>& bytes);
  engine::Batch put(const TestBatch& batch);
  // New device memory with these keys and values [pages * Nk * page_tokens, Dh], rounded to the
  // dtype; of e4m3, rows with NaN get the scale NaN.
  engine::KvLayer put_cache(
      const Rows& keys, const Rows& values, DType dtype, int page_tokens, int64_t kv_heads);
  // New device memory with these values as a weight, in the backend's layout.
  engine::Matrix load(const Rows& rows, DType dtype);
  engine::Matrix load(const Fp8Weight& weight);

  // After everything enqueued so far.
  Rows get(View view);
  std::vector<uint8_t> bytes(View view);  // row by row, without the gaps between rows

 private:
  void* allocate(int64_t bytes);

  std::unique_ptr<memory::Device> device_;
  std::unique_ptr<engine::Ops> ops_;
  std::unique_ptr<memory::Stream> stream_;
  std::vector<memory::Buffer> buffers_;
};

}  // namespace engram::testing
