#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/support/cuda_emulation/cublasLt.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  int32_t transpose_a = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  uint64_t rows;
  uint64_t cols;
  int64_t ld;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace_bytes = 0;
  uint32_t reductions = 0;
  uint32_t alignments[4] = {256, 256, 256, 256};  // of A, B, C, D
};

namespace {

// What a kernel of the library may want; more than nothing, so that a test sees it used.
constexpr uint64_t kWorkspaceWanted = 4096;

// What a choice was made for, kept in its algo and compared when it is used.
struct Problem {
  uint64_t rows;  // of D
  uint64_t cols;
  uint64_t depth;
  uint64_t types_and_epilogue;
  uint64_t alignments;  // of A, B and D, 16 bits each
  uint64_t workspace_bytes;
  uint64_t lds[2];  // of B and D
};
static_assert(sizeof(Problem) == sizeof(cublasLtMatmulAlgo_t));

struct Operands {
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t a, b, c, d;
};

bool layout_is_sound(cublasLtMatrixLayout_t m) {
  return m->rows > 0 && m->cols > 0 && m->ld >= static_cast<int64_t>(m->rows);
}

// D [a.cols, b.cols] = A^T B.
cublasStatus_t check_operands(const Operands& o) {
  for (cublasLtMatrixLayout_t m : {o.a, o.b, o.c, o.d}) {
    if (!layout_is_sound(m)) return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (o.operation->transpose_a != CUBLAS_OP_T) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool fit = o.a->rows == o.b->rows && o.d->rows == o.a->cols && o.d->cols == o.b->cols &&
                   o.c->rows == o.d->rows && o.c->cols == o.d->cols && o.c->type == o.d->type;
  if (!fit) return CUBLAS_STATUS_INVALID_VALUE;
  const bool bf16 = o.a->type == CUDA_R_16BF && o.b->type == CUDA_R_16BF &&
                    (o.d->type == CUDA_R_16BF || o.d->type == CUDA_R_32F);
  const bool f32 = o.a->type == CUDA_R_32F && o.b->type == CUDA_R_32F && o.d->type == CUDA_R_32F;
  if (!bf16 && !f32) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool biased = o.operation->epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (biased && o.operation->bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

Problem problem_of(const Operands& o) {
  Problem p{};
  p.rows = o.d->rows;
  p.cols = o.d->cols;
  p.depth = o.a->rows;
  p.types_and_epilogue = static_cast<uint64_t>(o.a->type) | static_cast<uint64_t>(o.d->type) << 8 |
                         uint64_t{o.operation->epilogue} << 16;
  p.lds[0] = static_cast<uint64_t>(o.b->ld);
  p.lds[1] = static_cast<uint64_t>(o.d->ld);
  return p;
}

bool takes_addresses(const Operands& o, const cublasLtMatmulPreferenceOpaque_t& preference) {
  const uint32_t least = o.a->type == CUDA_R_16BF ? 16 : 4;
  const uint32_t of_result = o.d->type == CUDA_R_16BF ? 2 : 4;
  const bool rows = o.a->type != CUDA_R_16BF || (o.a->ld % 8 == 0 && o.b->ld % 8 == 0);
  return rows && preference.alignments[0] >= least && preference.alignments[1] >= least &&
         preference.alignments[3] >= of_result;
}

bool aligned(const void* data, uint64_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

float element(const void* data, cudaDataType_t type, int64_t index) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[index];
  const uint32_t bits = static_cast<const uint16_t*>(data)[index];
  return std::bit_cast<float>(bits << 16);
}

void write(void* data, cudaDataType_t type, int64_t index, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[index] = value;
    return;
  }
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded =
      value != value ? bits | 0x00400000u : bits + 0x7fffu + ((bits >> 16) & 1u);
  static_cast<uint16_t*>(data)[index] = static_cast<uint16_t>(rounded >> 16);
}

// The layouts as they were when the product was enqueued.
struct Product {
  cublasLtMatrixLayoutOpaque_t a_layout, b_layout, d_layout;
  const void* a;
  const void* b;
  const void* bias;
  void* d;

  void run() const {
    for (int64_t col = 0; col < static_cast<int64_t>(d_layout.cols); ++col) {
      for (int64_t row = 0; row < static_cast<int64_t>(d_layout.rows); ++row) {
        double sum = bias == nullptr ? 0. : double{element(bias, d_layout.type, row)};
        for (int64_t k = 0; k < static_cast<int64_t>(a_layout.rows); ++k) {
          sum += double{element(a, a_layout.type, row * a_layout.ld + k)} *
                 double{element(b, b_layout.type, col * b_layout.ld + k)};
        }
        write(d, d_layout.type, col * d_layout.ld + row, static_cast<float>(sum));
      }
    }
  }
};

template <typename T>
cublasStatus_t set(T* field, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t destroy(T* made) {
  const std::unique_ptr<T> owned(made);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

const char* cublasLtGetStatusString(cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return "CUBLAS_STATUS_SUCCESS";
  if (status == CUBLAS_STATUS_INVALID_VALUE) return "CUBLAS_STATUS_INVALID_VALUE";
  if (status == CUBLAS_STATUS_EXECUTION_FAILED) return "CUBLAS_STATUS_EXECUTION_FAILED";
  return "CUBLAS_STATUS_NOT_SUPPORTED";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = std::make_unique<cublasLtContext>().release();
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return destroy(handle);
}
cublasStatus_t cublasLtMatmulDescCreate(
    cublasLtMatmulDesc_t* operation, cublasComputeType_t compute, cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
  *operation = std::make_unique<cublasLtMatmulDescOpaque_t>().release();
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return destroy(operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(
    cublasLtMatmulDesc_t operation,
    cublasLtMatmulDescAttributes_t attribute,
    const void* value,
    size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(&operation->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(&operation->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(&operation->bias, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutCreate(
    cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows, uint64_t cols, int64_t ld) {
  *layout = std::make_unique<cublasLtMatrixLayoutOpaque_t>(
                cublasLtMatrixLayoutOpaque_t{type, rows, cols, ld})
                .release();
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return destroy(layout);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = std::make_unique<cublasLtMatmulPreferenceOpaque_t>().release();
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference,
    cublasLtMatmulPreferenceAttributes_t attribute,
    const void* value,
    size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(&preference->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return set(&preference->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: {
      const int matrix = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
      return set(&preference->alignments[matrix], value, bytes);
    }
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t,
    cublasLtMatmulDesc_t operation,
    cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b,
    cublasLtMatrixLayout_t c,
    cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference,
    int wanted,
    cublasLtMatmulHeuristicResult_t* results,
    int* count) {
  const Operands operands{operation, a, b, c, d};
  *count = 0;
  const cublasStatus_t status = check_operands(operands);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  if (!takes_addresses(operands, *preference)) return CUBLAS_STATUS_NOT_SUPPORTED;
  Problem problem = problem_of(operands);
  const uint32_t* alignments = preference->alignments;
  problem.alignments =
      alignments[0] | uint64_t{alignments[1]} << 16 | uint64_t{alignments[3]} << 32;
  problem.workspace_bytes = std::min(kWorkspaceWanted, preference->workspace_bytes);
  results[0] = {
      std::bit_cast<cublasLtMatmulAlgo_t>(problem), problem.workspace_bytes, CUBLAS_STATUS_SUCCESS,
      1.f};
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(
    cublasLtHandle_t,
    cublasLtMatmulDesc_t operation,
    const void* alpha,
    const void* a,
    cublasLtMatrixLayout_t a_layout,
    const void* b,
    cublasLtMatrixLayout_t b_layout,
    const void* beta,
    const void*,
    cublasLtMatrixLayout_t c_layout,
    void* d,
    cublasLtMatrixLayout_t d_layout,
    const cublasLtMatmulAlgo_t* algorithm,
    void* workspace,
    size_t workspace_bytes,
    cudaStream_t stream) {
  const Operands operands{operation, a_layout, b_layout, c_layout, d_layout};
  const cublasStatus_t status = check_operands(operands);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const Problem chosen = std::bit_cast<Problem>(*algorithm);
  Problem found = problem_of(operands);
  found.alignments = chosen.alignments;
  found.workspace_bytes = chosen.workspace_bytes;
  const bool same = std::memcmp(&found, &chosen, sizeof(Problem)) == 0;
  const bool placed = aligned(a, chosen.alignments & 0xffffu) &&
                      aligned(b, chosen.alignments >> 16 & 0xffffu) &&
                      aligned(d, chosen.alignments >> 32) && aligned(workspace, 16);
  const bool scaled =
      *static_cast<const float*>(alpha) == 1.f && *static_cast<const float*>(beta) == 0.f;
  if (!same || !placed || !scaled || workspace_bytes < chosen.workspace_bytes) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool biased = operation->epilogue == CUBLASLT_EPILOGUE_BIAS;
  const Product product{*a_layout, *b_layout, *d_layout, a, b, biased ? operation->bias : nullptr,
                        d};
  const auto run = [product, workspace, bytes = chosen.workspace_bytes] {
    std::memset(workspace, 0xff, bytes);
    product.run();
  };
  return cuda_emulation::enqueue(stream, run) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                             : CUBLAS_STATUS_EXECUTION_FAILED;
}
