#include "tests/support/op_rig.h"

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "memory/device/device_cuda.h"
#include "tests/support/or_die.h"

namespace engram::testing {

using memory::Bf16;
using memory::F16;

namespace {

void write(DType dtype, double value, char* to) {
  if (dtype == DType::kF64) {
    std::memcpy(to, &value, sizeof(value));
  } else if (dtype == DType::kF32) {
    const float narrow = static_cast<float>(value);
    std::memcpy(to, &narrow, sizeof(narrow));
  } else if (dtype == DType::kF16) {
    const F16 narrow = memory::float_to_half(static_cast<float>(value));
    std::memcpy(to, &narrow, sizeof(narrow));
  } else {
    ENGRAM_CHECK(dtype == DType::kBf16);
    const Bf16 narrow(static_cast<float>(value));
    std::memcpy(to, &narrow, sizeof(narrow));
  }
}

std::vector<char> stored(const Rows& rows, DType dtype) {
  const size_t width = static_cast<size_t>(memory::dtype_bytes(dtype));
  std::vector<char> bytes(rows.values.size() * width);
  for (size_t i = 0; i < rows.values.size(); ++i) {
    write(dtype, rows.values[i], bytes.data() + i * width);
  }
  return bytes;
}

double read(DType dtype, const uint8_t* from) {
  if (dtype == DType::kF64) {
    double value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  ENGRAM_CHECK(dtype == DType::kBf16);
  Bf16 value;
  std::memcpy(&value, from, sizeof(value));
  return static_cast<float>(value);
}

}  // namespace

#ifdef TEST_DEVICE_CUDA
std::vector<Backend> backends() {
  static const bool found = memory::make_cuda_device(0).ok();
  if (found) return {{"cuda", 1}};
  std::puts("SKIPPED: no CUDA device");
  std::fflush(stdout);
  std::_Exit(0);  // not exit(): a reporter of Catch2 that writes to a file does not survive it
}
#else
std::vector<Backend> backends() {
  hwy::SetSupportedTargetsForTest(0);
  const int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
  std::vector<Backend> list = {{"cpu", 1}, {"cpu", 3}};
  for (int64_t lesser = all & (all - 1); lesser != 0; lesser &= lesser - 1) {
    list.push_back({"cpu", 2, lesser & -lesser});
  }
  return list;
}
#endif

double rounded(double value, DType dtype) {
  const float narrow = static_cast<float>(value);
  if (dtype == DType::kF32) return narrow;
  if (dtype == DType::kF16) return memory::half_to_float(memory::float_to_half(narrow));
  return static_cast<float>(Bf16(narrow));
}

Rows rounded(const Rows& x, DType dtype) {
  Rows y = x;
  for (double& value : y.values) value = rounded(value, dtype);
  return y;
}

uint8_t encode_head(const double* head, int64_t width, uint8_t* codes) {
  double largest = 0.0;
  bool finite = true;
  for (int64_t i = 0; i < width; ++i) {
    finite = finite && std::isfinite(head[i]);
    largest = std::max(largest, std::abs(head[i]));
  }
  if (!finite) {
    std::fill_n(codes, width, uint8_t{0x7f});
    return 255;
  }
  int scale = 0;
  if (largest > 0) {
    scale = -127;
    while (largest > std::ldexp(448.0, scale)) ++scale;
  }
  for (int64_t i = 0; i < width; ++i) {
    codes[i] = memory::float_to_e4m3(static_cast<float>(std::ldexp(head[i], -scale)));
  }
  return static_cast<uint8_t>(scale + 127);
}

Rows as_cached(const Rows& x, DType cache, int64_t width) {
  if (cache != DType::kF8E4m3) return rounded(x, cache);
  Rows y = x;
  std::vector<uint8_t> codes(static_cast<size_t>(width));
  for (size_t at = 0; at < y.values.size(); at += codes.size()) {
    const double scale = memory::e8m0_to_float(encode_head(&y.values[at], width, codes.data()));
    for (size_t i = 0; i < codes.size(); ++i) {
      y.values[at + i] = scale * memory::e4m3_to_float(codes[i]);
    }
  }
  return y;
}

Rows random_rows(std::mt19937_64& random, DType dtype, int64_t rows, int64_t cols, double scale) {
  std::normal_distribution<double> normal(0.0, scale);
  Rows x(rows, cols);
  for (double& value : x.values) value = rounded(normal(random), dtype);
  return x;
}

Rows Fp8Weight::values() const {
  const int64_t scale_cols = (cols + engine::kScaleCols - 1) / engine::kScaleCols;
  Rows x(rows, cols);
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t k = 0; k < cols; ++k) {
      const int64_t scale = n / scale_rows * scale_cols + k / engine::kScaleCols;
      x.at(n, k) = double{memory::e4m3_to_float(codes[static_cast<size_t>(n * cols + k)])} *
                   double{scales[static_cast<size_t>(scale)]};
    }
  }
  return x;
}

Fp8Weight random_fp8(std::mt19937_64& random, int64_t rows, int64_t cols, int64_t scale_rows) {
  Fp8Weight w{.rows = rows, .cols = cols, .scale_rows = scale_rows, .codes = {}, .scales = {}};
  for (int64_t i = 0; i < rows * cols; ++i) {
    // Magnitudes from 0 on; around 80 are those of a normal distribution that fills the range.
    const uint64_t draw = random();
    const uint64_t magnitude = draw % 4 == 0 ? (draw >> 8) % 127 : 64 + (draw >> 8) % 32;
    w.codes.push_back(static_cast<uint8_t>(magnitude | (draw >> 32 & 0x80)));
  }
  const int64_t scale_cols = (cols + engine::kScaleCols - 1) / engine::kScaleCols;
  std::uniform_real_distribution<float> factor(0.01f, 0.05f);
  for (int64_t i = 0; i < (rows + scale_rows - 1) / scale_rows * scale_cols; ++i) {
    w.scales.push_back(factor(random));
  }
  return w;
}

void TestBatch::add(int64_t first, int64_t count, const std::vector<int32_t>& pages) {
  const int32_t sequence = static_cast<int32_t>(pages_.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = first + i;
    const int32_t page = pages.at(static_cast<size_t>(position / page_tokens_));
    positions_.push_back(static_cast<int32_t>(position));
    slots_.push_back(page * page_tokens_ + static_cast<int32_t>(position % page_tokens_));
    sequence_of_.push_back(sequence);
  }
  token_begin_.push_back(static_cast<int32_t>(tokens()));
  pages_.push_back(pages);
}

std::vector<int32_t> shuffled_pages(std::mt19937_64& random, int64_t pages) {
  std::vector<int32_t> order(static_cast<size_t>(pages));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

OpRig::OpRig(const Backend& backend, int64_t max_vocab) {
  hwy::SetSupportedTargetsForTest(backend.simd);
  constexpr int64_t kMaxTokens = 80;
  constexpr int64_t kMaxWidth = 4100;
  const engine::OpsLimits limits{
      .max_tokens = kMaxTokens,
      .max_cols = kMaxWidth,
      .max_rows = std::max(max_vocab, kMaxWidth),
      .max_context = 8192,
      .fp8_weights = true};
#ifdef TEST_DEVICE_CUDA
  backends();  // the program ends here where there is no GPU
  device_ = memory::make_cuda_device(0).value();
  memory::Result<std::unique_ptr<engine::Ops>> ops = engine::make_cuda_ops(*device_, limits);
#else
  device_ = memory::make_cpu_device(backend.threads);
  memory::Result<std::unique_ptr<engine::Ops>> ops = engine::make_cpu_ops(*device_, limits);
#endif
  ENGRAM_CHECK(ops.ok());
  ops_ = std::move(ops).value();
  stream_ = device_->make_stream("test");
}

void* OpRig::allocate(int64_t bytes) {
  memory::Result<memory::Buffer> buffer =
      device_->allocate("test data", std::max<int64_t>(bytes, 1));
  ENGRAM_CHECK(buffer.ok());
  buffers_.push_back(std::move(buffer).value());
  return buffers_.back().data();
}

View OpRig::put(const Rows& rows, DType dtype) {
  const std::vector<char> host = stored(rows, dtype);
  const int64_t bytes = static_cast<int64_t>(host.size());
  const View view = memory::make_view(allocate(bytes), dtype, rows.rows, rows.cols);
  if (bytes > 0) device_->copy(*stream_, view.data, host.data(), bytes);
  stream_->synchronize();
  return view;
}

View OpRig::filled(DType dtype, int64_t rows, int64_t cols, double value) {
  Rows x(rows, cols);
  std::fill(x.values.begin(), x.values.end(), value);
  return put(x, dtype);
}

const int32_t* OpRig::put(const std::vector<int32_t>& values) {
  const int64_t bytes = std::ssize(values) * 4;
  void* data = allocate(bytes);
  if (bytes > 0) device_->copy(*stream_, data, values.data(), bytes);
  stream_->synchronize();
  return static_cast<const int32_t*>(data);
}

void* OpRig::put(const std::vector<uint8_t>& bytes) {
  void* data = allocate(std::ssize(bytes));
  if (!bytes.empty()) device_->copy(*stream_, data, bytes.data(), std::ssize(bytes));
  stream_->synchronize();
  return data;
}

engine::KvLayer OpRig::put_cache(
    const Rows& keys, const Rows& values, DType dtype, int page_tokens, int64_t kv_heads) {
  engine::KvLayer kv{
      .keys = nullptr,
      .values = nullptr,
      .dtype = dtype,
      .page_tokens = page_tokens,
      .kv_heads = static_cast<int>(kv_heads),
      .head_dim = static_cast<int>(keys.cols)};
  if (dtype != DType::kF8E4m3) {
    kv.keys = put(keys, dtype).data;
    kv.values = put(values, dtype).data;
    return kv;
  }
  const auto encode = [&](const Rows& x, void** codes, uint8_t** scales) {
    std::vector<uint8_t> all(x.values.size());
    std::vector<uint8_t> scale_of_row(static_cast<size_t>(x.rows));
    for (int64_t r = 0; r < x.rows; ++r) {
      const size_t at = static_cast<size_t>(r * x.cols);
      scale_of_row[static_cast<size_t>(r)] = encode_head(&x.values[at], x.cols, &all[at]);
    }
    *codes = put(all);
    *scales = static_cast<uint8_t*>(put(scale_of_row));
  };
  encode(keys, &kv.keys, &kv.key_scales);
  encode(values, &kv.values, &kv.value_scales);
  return kv;
}

engine::Batch OpRig::put(const TestBatch& batch) {
  size_t columns = 1;
  for (const std::vector<int32_t>& pages : batch.pages_) columns = std::max(columns, pages.size());
  std::vector<int32_t> table;  // behind a sequence's pages: numbers no page has
  for (const std::vector<int32_t>& pages : batch.pages_) {
    table.insert(table.end(), pages.begin(), pages.end());
    table.insert(table.end(), columns - pages.size(), 0x3fffffff);
  }
  engine::Batch out;
  out.tokens = batch.tokens();
  out.sequences = std::ssize(batch.pages_);
  out.max_pages = static_cast<int64_t>(columns);
  out.positions = put(batch.positions_);
  out.slots = put(batch.slots_);
  out.sequence_of = put(batch.sequence_of_);
  out.token_begin = put(batch.token_begin_);
  out.page_table = put(table);
  return out;
}

engine::Matrix OpRig::load(const Rows& rows, DType dtype) {
  std::vector<char> host = stored(rows, dtype);
  const engine::Matrix matrix{
      allocate(ops_->matrix_bytes(dtype, rows.rows, rows.cols)), rows.rows, rows.cols, dtype};
  ops_->load_rows(matrix, 0, memory::make_view(host.data(), dtype, rows.rows, rows.cols));
  return matrix;
}

engine::Matrix OpRig::load(const Fp8Weight& weight) {
  std::vector<uint8_t> host = weight.codes;
  engine::Matrix matrix{
      allocate(ops_->matrix_bytes(DType::kF8E4m3, weight.rows, weight.cols)), weight.rows,
      weight.cols, DType::kF8E4m3};
  ops_->load_rows(
      matrix, 0, memory::make_view(host.data(), DType::kF8E4m3, weight.rows, weight.cols));
  const int64_t bytes = std::ssize(weight.scales) * static_cast<int64_t>(sizeof(float));
  void* scales = allocate(bytes);
  device_->copy(*stream_, scales, weight.scales.data(), bytes);
  stream_->synchronize();
  matrix.scales = static_cast<float*>(scales);
  matrix.scale_rows = weight.scale_rows;
  return matrix;
}

std::vector<uint8_t> OpRig::bytes(View view) {
  const int64_t element = memory::dtype_bytes(view.dtype);
  std::vector<uint8_t> host(static_cast<size_t>(view.rows * view.cols * element));
  for (int64_t r = 0; r < view.rows; ++r) {
    device_->copy(
        *stream_, host.data() + r * view.cols * element,
        view.as<char>() + r * view.stride * element, view.cols * element);
  }
  stream_->synchronize();
  tests::ok_or_die(device_->failure());
  return host;
}

Rows OpRig::get(View view) {
  const std::vector<uint8_t> host = bytes(view);
  const size_t element = static_cast<size_t>(memory::dtype_bytes(view.dtype));
  Rows rows(view.rows, view.cols);
  for (size_t i = 0; i < rows.values.size(); ++i) {
    rows.values[i] = read(view.dtype, host.data() + i * element);
  }
  return rows;
}

}  // namespace engram::testing
