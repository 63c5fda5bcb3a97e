// Linear layers of a 0.5B-parameter model (24 layers, D = 896, I = 4864, V = 151936, bf16, and the
// layers once more in fp8): one shape at a time over all layers, and all of a decode step. Weights
// of a step are more than the caches hold, so every case reads memory. Also what one fork and join
// of the workers costs.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "engine/ops/ops.h"
#include "tests/bench/bench.h"

namespace engram::bench {
namespace {

using engine::Matrix;
using engine::Ops;
using memory::Bf16;
using memory::DType;
using memory::make_view;
using memory::View;

struct Sizes {
  int64_t layers = 24;
  int64_t hidden = 896;
  int64_t feed_forward = 4864;
  int64_t qkv = 1152;
  int64_t vocabulary = 151936;
};

constexpr Sizes kSmoke{
    .layers = 2, .hidden = 64, .feed_forward = 160, .qkv = 96, .vocabulary = 300};
constexpr int64_t kMaxTokens = 512;

void spin_2_us() {
  const std::chrono::steady_clock::time_point end =
      std::chrono::steady_clock::now() + std::chrono::microseconds(2);
  while (std::chrono::steady_clock::now() < end) {
  }
}

class LinearBench {
 public:
  LinearBench(Suite& suite, const Sizes& sizes)
      : suite_(suite),
        sizes_(sizes),
        device_(memory::make_cpu_device(suite.workers().threads())),
        stream_(device_->make_stream("main")) {
    ops_ = engine::make_cpu_ops(
               *device_, {.max_tokens = kMaxTokens,
                          .max_cols = std::max(sizes.feed_forward, sizes.hidden),
                          .max_rows = std::max(sizes.vocabulary, 2 * sizes.feed_forward),
                          .max_context = 16})
               .value();
    const int64_t widest = std::max(sizes.vocabulary, kMaxTokens * 2 * sizes.feed_forward);
    x_ = random_floats(kMaxTokens * std::max(sizes.feed_forward, sizes.hidden));
    // Logits are asked for up to 16 rows at a time.
    y_ = allocate("y", 4 * std::max(widest, 16 * sizes.vocabulary));
    fill_layers(DType::kBf16, &bf16_);
    fill_layers(DType::kF8E4m3, &fp8_);
    head_.push_back(matrix(DType::kBf16, sizes.vocabulary, sizes.hidden));
  }

  void add_cases() {
    for (const int64_t tokens : {1, 2, 4, 8, 16, 64, 512}) {
      const bool prefill = tokens > 16;
      // A prompt needs the logits of its last token only.
      if (!prefill) add_shape("head", head_, tokens, prefill);
      for (const Layers* layers : {&bf16_, &fp8_}) {
        const std::string end = layers == &fp8_ ? " fp8" : "";
        add_shape("qkv" + end, layers->qkv, tokens, prefill);
        add_shape("o" + end, layers->o, tokens, prefill);
        add_shape("gate_up" + end, layers->gate_up, tokens, prefill);
        add_shape("down" + end, layers->down, tokens, prefill);
        if (!prefill) add_step("all linear layers of a step" + end, *layers, tokens);
      }
    }
    add_fork_join();
  }

 private:
  struct Layers {
    std::vector<Matrix> qkv;
    std::vector<Matrix> o;
    std::vector<Matrix> gate_up;
    std::vector<Matrix> down;
  };

  void fill_layers(DType dtype, Layers* layers) {
    for (int64_t layer = 0; layer < sizes_.layers; ++layer) {
      layers->qkv.push_back(matrix(dtype, sizes_.qkv, sizes_.hidden));
      layers->o.push_back(matrix(dtype, sizes_.hidden, sizes_.hidden));
      layers->gate_up.push_back(matrix(dtype, 2 * sizes_.feed_forward, sizes_.hidden));
      layers->down.push_back(matrix(dtype, sizes_.hidden, sizes_.feed_forward));
    }
  }

  memory::Buffer random_floats(int64_t count) {
    memory::Buffer buffer = allocate("x", 4 * count);
    fill_bytes(buffer.data(), buffer.bytes(), 3);
    // Into [1, 2) and [-2, -1): sums of both signs without special values.
    uint32_t* bits = buffer.as<uint32_t>();
    for (int64_t i = 0; i < count; ++i) bits[i] = (bits[i] & 0x807fffffu) | 0x3f800000u;
    return buffer;
  }

  Matrix matrix(DType dtype, int64_t rows, int64_t cols) {
    const int64_t piece = 64;
    const int64_t element = memory::dtype_bytes(dtype);
    memory::Buffer source = allocate("source", element * piece * cols);
    buffers_.push_back(allocate("weight", ops_->matrix_bytes(dtype, rows, cols)));
    Matrix m{buffers_.back().data(), rows, cols, dtype};
    for (int64_t first = 0; first < rows; first += piece) {
      fill_bytes(source.data(), source.bytes(), static_cast<uint64_t>(first + 7));
      if (dtype == DType::kBf16) {
        uint16_t* bits = source.as<uint16_t>();
        for (int64_t i = 0; i < piece * cols; ++i) {
          bits[i] = static_cast<uint16_t>((bits[i] & 0x807fu) | 0x3c00u);
        }
      } else {
        uint8_t* codes = source.as<uint8_t>();  // without NaN
        for (int64_t i = 0; i < piece * cols; ++i) codes[i] &= 0xbfu;
      }
      ops_->load_rows(
          m, first, make_view(source.data(), dtype, std::min(piece, rows - first), cols));
    }
    if (dtype == DType::kF8E4m3) add_scales(&m);
    return m;
  }

  void add_scales(Matrix* m) {
    m->scale_rows = engine::kMaxScaleRows;
    const int64_t count = m->scale_row_count() * m->scale_col_count();
    buffers_.push_back(allocate("scales", 4 * count));
    m->scales = buffers_.back().as<float>();
    std::fill_n(m->scales, count, 0.01f);
  }

  void linear(const Matrix& w, int64_t tokens) {
    ops_->linear(
        *stream_, make_view(x_.data(), DType::kF32, tokens, w.cols), w, View(),
        make_view(y_.data(), DType::kF32, tokens, w.rows));
  }

  static int64_t weight_bytes(const Matrix& w) {
    return w.rows * w.cols * memory::dtype_bytes(w.dtype);
  }

  void add_shape(
      const std::string& name, const std::vector<Matrix>& all, int64_t tokens, bool prefill) {
    // Some layers are enough for a long prompt: arithmetic, not memory, is what it takes.
    const int64_t layers =
        std::min<int64_t>(static_cast<int64_t>(all.size()), tokens > 64 ? 2 : 24);
    const Matrix w = all.front();
    suite_.add(
        {.name = name + " M=" + std::to_string(tokens) + " N=" + std::to_string(w.rows) +
                 " K=" + std::to_string(w.cols),
         .bytes = layers * weight_bytes(w),
         .flops = layers * 2 * tokens * w.rows * w.cols,
         .repeats = layers,
         .peak = prefill ? Peak::kFma : Peak::kRead,
         .run =
             [=, this, &all] {
               for (int64_t i = 0; i < layers; ++i) linear(all[static_cast<size_t>(i)], tokens);
               stream_->synchronize();
             },
         .hash =
             [=, this] {
               linear(w, tokens);
               stream_->synchronize();
               return hash_bytes(y_.data(), 4 * tokens * w.rows);
             }});
  }

  void add_step(const std::string& name, const Layers& layers, int64_t tokens) {
    int64_t bytes = weight_bytes(head_[0]);
    int64_t weights = head_[0].rows * head_[0].cols;
    for (const std::vector<Matrix>* all : {&layers.qkv, &layers.o, &layers.gate_up, &layers.down}) {
      bytes += sizes_.layers * weight_bytes(all->front());
      weights += sizes_.layers * all->front().rows * all->front().cols;
    }
    suite_.add(
        {.name = name + ", M=" + std::to_string(tokens),
         .bytes = bytes,
         .flops = 2 * weights * tokens,
         .peak = Peak::kRead,
         .run = [=, this, &layers] {
           for (size_t i = 0; i < static_cast<size_t>(sizes_.layers); ++i) {
             linear(layers.qkv[i], tokens);
             linear(layers.o[i], tokens);
             linear(layers.gate_up[i], tokens);
             linear(layers.down[i], tokens);
           }
           linear(head_[0], tokens);
           stream_->synchronize();
         }});
  }

  void add_fork_join() {
    constexpr int64_t kRounds = 10000;
    // Parts long enough for every worker to come and take one.
    suite_.add(
        {.name = "fork and join, a part of 2 us per worker",
         .repeats = kRounds / 10,
         .run = [this] {
           memory::CpuWorkers& workers = memory::as_cpu(*device_).workers();
           for (int64_t i = 0; i < kRounds / 10; ++i) {
             workers.run(workers.threads(), [](int64_t) { spin_2_us(); });
           }
         }});
    suite_.add({.name = "one empty item of a stream", .repeats = kRounds, .run = [this] {
                  for (int64_t i = 0; i < kRounds; ++i) memory::as_cpu(*stream_).enqueue([] {});
                  stream_->synchronize();
                }});
    suite_.add({.name = "enqueue and synchronize", .repeats = 100, .run = [this] {
                  for (int i = 0; i < 100; ++i) {
                    memory::as_cpu(*stream_).enqueue([] {});
                    stream_->synchronize();
                  }
                }});
  }

  Suite& suite_;
  const Sizes sizes_;
  std::unique_ptr<memory::Device> device_;
  std::vector<memory::Buffer> buffers_;
  memory::Buffer x_;
  memory::Buffer y_;
  Layers bf16_;
  Layers fp8_;
  std::vector<Matrix> head_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<memory::Stream> stream_;
};

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  engram::bench::Suite suite(engram::bench::parse_options(argc, argv));
  engram::bench::LinearBench bench(
      suite, suite.options().smoke ? engram::bench::kSmoke : engram::bench::Sizes());
  bench.add_cases();
  return suite.run();
}
