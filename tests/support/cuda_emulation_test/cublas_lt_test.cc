// The emulated library refuses what the real one does.
#include <cublasLt.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// y [5, 3] = x [5, 16] w [3, 16]^T in f32, as the library sees it.
class Product {
 public:
  Product() {
    REQUIRE(
        cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
        CUBLAS_STATUS_SUCCESS);
    const int32_t transposed = CUBLAS_OP_T;
    REQUIRE(
        cublasLtMatmulDescSetAttribute(
            operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)) ==
        CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS);
    allow(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{1} << 20);
    for (const cublasLtMatmulPreferenceAttributes_t matrix :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      allow(matrix, uint32_t{16});
    }
    REQUIRE(cudaStreamCreateWithFlags(&stream, 0) == cudaSuccess);
    for (void** data : {&a, &b, &d, &workspace}) {
      REQUIRE(cudaMalloc(data, size_t{1} << 20) == cudaSuccess);
      std::memset(*data, 0, size_t{1} << 20);
    }
  }
  ~Product() {
    for (void* data : {a, b, d, workspace}) cudaFree(data);
    cudaStreamDestroy(stream);
    for (cublasLtMatrixLayout_t made : layouts) cublasLtMatrixLayoutDestroy(made);
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatmulDescDestroy(operation);
    cublasLtDestroy(handle);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  template <typename T>
  void allow(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    REQUIRE(
        cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)) ==
        CUBLAS_STATUS_SUCCESS);
  }
  cublasLtMatrixLayout_t layout(cudaDataType_t type, uint64_t rows, uint64_t cols, int64_t ld) {
    cublasLtMatrixLayout_t made = nullptr;
    REQUIRE(cublasLtMatrixLayoutCreate(&made, type, rows, cols, ld) == CUBLAS_STATUS_SUCCESS);
    layouts.push_back(made);
    return made;
  }
  cublasStatus_t choose() {
    return cublasLtMatmulAlgoGetHeuristic(
        handle, operation, w_layout, x_layout, y_layout, y_layout, preference, 1, &best, &count);
  }
  cublasStatus_t multiply(size_t workspace_bytes) {
    const float one = 1.f;
    const float zero = 0.f;
    const cublasStatus_t status = cublasLtMatmul(
        handle, operation, &one, a, w_layout, b, x_layout, &zero, d, y_layout, d, y_layout,
        &best.algo, workspace, workspace_bytes, stream);
    cudaStreamSynchronize(stream);
    return status;
  }

  std::vector<cublasLtMatrixLayout_t> layouts;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cudaStream_t stream = nullptr;
  cublasLtMatrixLayout_t w_layout = layout(CUDA_R_32F, 16, 3, 16);
  cublasLtMatrixLayout_t x_layout = layout(CUDA_R_32F, 16, 5, 16);
  cublasLtMatrixLayout_t y_layout = layout(CUDA_R_32F, 3, 5, 3);
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  void* a = nullptr;
  void* b = nullptr;
  void* d = nullptr;
  void* workspace = nullptr;
};

TEST_CASE("a sound product is computed", "[emulation]") {
  Product p;
  static_cast<float*>(p.a)[16 + 2] = 3.f;      // w[1][2]
  static_cast<float*>(p.b)[4 * 16 + 2] = 5.f;  // x[4][2]
  REQUIRE(p.choose() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(p.count == 1);
  REQUIRE(p.multiply(p.best.workspaceSize) == CUBLAS_STATUS_SUCCESS);
  CHECK(static_cast<float*>(p.d)[4 * 3 + 1] == 15.f);
  CHECK(static_cast<float*>(p.d)[4 * 3] == 0.f);
}

TEST_CASE("shapes that do not fit are invalid", "[emulation]") {
  Product p;
  p.y_layout = p.layout(CUDA_R_32F, 4, 5, 4);
  CHECK(p.choose() == CUBLAS_STATUS_INVALID_VALUE);
  p.y_layout = p.layout(CUDA_R_32F, 3, 5, 2);
  CHECK(p.choose() == CUBLAS_STATUS_INVALID_VALUE);
}

TEST_CASE("dtypes without a kernel are not supported", "[emulation]") {
  Product p;
  p.w_layout = p.layout(CUDA_R_16BF, 16, 3, 16);
  CHECK(p.choose() == CUBLAS_STATUS_NOT_SUPPORTED);
  p.w_layout = p.layout(CUDA_R_16F, 16, 3, 16);
  CHECK(p.choose() == CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_CASE("a choice serves its own problem only", "[emulation]") {
  Product p;
  REQUIRE(p.choose() == CUBLAS_STATUS_SUCCESS);
  p.x_layout = p.layout(CUDA_R_32F, 16, 4, 16);
  p.y_layout = p.layout(CUDA_R_32F, 3, 4, 3);
  CHECK(p.multiply(p.best.workspaceSize) == CUBLAS_STATUS_INVALID_VALUE);
}

TEST_CASE("too small a workspace is invalid", "[emulation]") {
  Product p;
  REQUIRE(p.choose() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(p.best.workspaceSize > 0);
  CHECK(p.multiply(p.best.workspaceSize - 1) == CUBLAS_STATUS_INVALID_VALUE);
}

TEST_CASE("an address less aligned than was said is invalid", "[emulation]") {
  Product p;
  REQUIRE(p.choose() == CUBLAS_STATUS_SUCCESS);
  void* const start = p.b;
  p.b = static_cast<float*>(start) + 1;
  CHECK(p.multiply(p.best.workspaceSize) == CUBLAS_STATUS_INVALID_VALUE);
  p.b = start;
}

TEST_CASE("bf16 operands at odd addresses have no kernel here", "[emulation]") {
  Product p;
  p.w_layout = p.layout(CUDA_R_16BF, 16, 3, 16);
  p.x_layout = p.layout(CUDA_R_16BF, 16, 5, 16);
  CHECK(p.choose() == CUBLAS_STATUS_SUCCESS);
  p.allow(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t{2});
  CHECK(p.choose() == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(p.count == 0);
}

}  // namespace
