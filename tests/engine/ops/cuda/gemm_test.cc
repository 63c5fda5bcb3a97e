// What the library is given and what is left to others, under emulation; what it computes is the
// matter of linear_shapes_test.
#include "engine/ops/cuda/gemm.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "memory/device/device_cuda.h"
#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/dies.h"

namespace engram::engine::cuda {
namespace {

constexpr OpsLimits kLimits{.max_tokens = 64, .max_cols = 64, .max_rows = 64, .max_context = 16};
constexpr int64_t kTokens = 9;
constexpr int64_t kRows = 24;
constexpr int64_t kCols = 32;

// A device with x, w and y, all zeros; y may be checked for having been written over ones.
struct Rig {
  std::unique_ptr<memory::Device> device = memory::make_cuda_device(0).value();
  std::unique_ptr<Gemm> gemm = Gemm::make(*device, kLimits).value();
  memory::Buffer x = device->allocate("x", 4 * 2 * kTokens * kCols).value();
  memory::Buffer w = device->allocate("w", 4 * kRows * kCols).value();
  memory::Buffer y = device->allocate("y", 4 * 2 * kTokens * kRows).value();
  memory::Buffer bias = device->allocate("bias", 4 * kRows).value();
  std::unique_ptr<Stream> stream = device->make_stream("test");

  Linear linear(DType x_type, DType w_type, DType y_type) const {
    return {
        memory::make_view(x.data(), x_type, kTokens, kCols),
        {w.data(), kRows, kCols, w_type},
        nullptr,
        memory::make_view(y.data(), y_type, kTokens, kRows)};
  }
  // Whether the library computed y: its first result is then 0 (no bias) and no longer 1.
  bool multiplies(const Linear& l) {
    const float one = 1.f;
    device->copy(*stream, l.y.data, &one, 4);
    stream->synchronize();
    const bool taken = gemm->multiply(*stream, l);
    float first = 0.f;
    device->copy(*stream, &first, l.y.data, 4);
    stream->synchronize();
    CHECK(first == (taken ? 0.f : 1.f));
    return taken;
  }
};

TEST_CASE("the library multiplies operands of one dtype", "[ops][linear]") {
  Rig rig;
  CHECK(rig.multiplies(rig.linear(DType::kBf16, DType::kBf16, DType::kBf16)));
  CHECK(rig.multiplies(rig.linear(DType::kBf16, DType::kBf16, DType::kF32)));
  CHECK(rig.multiplies(rig.linear(DType::kF32, DType::kF32, DType::kF32)));
  CHECK_FALSE(rig.multiplies(rig.linear(DType::kF32, DType::kBf16, DType::kF32)));
  CHECK_FALSE(rig.multiplies(rig.linear(DType::kBf16, DType::kF16, DType::kBf16)));
  CHECK_FALSE(rig.multiplies(rig.linear(DType::kBf16, DType::kF32, DType::kBf16)));
}

TEST_CASE("a refusal is of these addresses and strides alone", "[ops][linear]") {
  Rig rig;
  const Linear even = rig.linear(DType::kBf16, DType::kBf16, DType::kF32);
  Linear odd_start = even;
  odd_start.x.data = even.x.as<Bf16>() + 1;
  Linear odd_stride = even;
  odd_stride.x.stride = kCols + 1;
  for (int turn = 0; turn < 2; ++turn) {
    CHECK(rig.multiplies(even));
    CHECK_FALSE(rig.multiplies(odd_start));
    CHECK_FALSE(rig.multiplies(odd_stride));
  }
  // The result may lie anywhere.
  Linear odd_result = even;
  odd_result.y = memory::make_view(even.y.as<float>() + 1, DType::kF32, kTokens, kRows);
  odd_result.y.stride = kRows + 1;
  CHECK(rig.multiplies(odd_result));
}

TEST_CASE("a bias reaches the library in the dtype of the result", "[ops][linear]") {
  Rig rig;
  std::vector<float> bias(kRows);
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = 1.f + 0.001f * static_cast<float>(i);
  rig.device->copy(*rig.stream, rig.bias.data(), bias.data(), 4 * kRows);
  Linear l = rig.linear(DType::kBf16, DType::kBf16, DType::kBf16);
  l.bias = rig.bias.as<float>();
  REQUIRE(rig.gemm->multiply(*rig.stream, l));
  rig.stream->synchronize();
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t n = 0; n < kRows; ++n) {
      REQUIRE(l.y.row<Bf16>(t)[n].bits == Bf16(bias[static_cast<size_t>(n)]).bits);
    }
  }
}

TEST_CASE("a product the library calls invalid ends the process", "[ops][linear]") {
  CHECK(tests::dies([] {
    Rig rig;
    Linear l = rig.linear(DType::kF32, DType::kF32, DType::kF32);
    l.x.stride = kCols - 1;
    rig.gemm->multiply(*rig.stream, l);
  }));
}

TEST_CASE("a product on a GPU that failed is its failure, with the shapes", "[ops][linear]") {
  using Catch::Contains;
  {
    Rig rig;
    const Linear l = rig.linear(DType::kF32, DType::kF32, DType::kF32);
    cuda_emulation::break_device(cudaErrorIllegalAddress);
    CHECK(rig.gemm->multiply(*rig.stream, l));
    const memory::Status failure = rig.device->failure();
    CHECK(failure.code() == memory::Code::kUnavailable);
    CHECK_THAT(
        failure.message(), Contains("cublasLtMatmul") && Contains("x [9, 32] and w [24, 32]") &&
                               Contains("CUBLAS_STATUS_EXECUTION_FAILED"));
    CHECK(rig.gemm->multiply(*rig.stream, l));
    rig.stream->synchronize();
  }
  cuda_emulation::repair();
}

}  // namespace
}  // namespace engram::engine::cuda
