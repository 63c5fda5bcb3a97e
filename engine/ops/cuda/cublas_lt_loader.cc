// The functions of cuBLASLt that Gemm calls, looked up in the library when one is called first:
// the programs of a build with the CUDA backend also start on machines without CUDA.
#include <cublasLt.h>
#include <dlfcn.h>

#include <string>

namespace {

const char* const kLibrary = "libcublasLt.so.13";

struct Library {
  void* handle = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  std::string error = handle == nullptr ? dlerror() : "";
};

const Library& library() {
  static const Library opened;
  return opened;
}

// A function of the library; null where there is none.
template <typename F>
F find(const char* name) {
  const Library& opened = library();
  return opened.handle == nullptr ? nullptr : reinterpret_cast<F>(dlsym(opened.handle, name));
}

template <typename F, typename... Arguments>
cublasStatus_t call(F function, Arguments... arguments) {
  return function == nullptr ? CUBLAS_STATUS_NOT_INITIALIZED : function(arguments...);
}

}  // namespace

const char* cublasLtGetStatusString(cublasStatus_t status) {
  static const auto function = find<decltype(&cublasLtGetStatusString)>("cublasLtGetStatusString");
  if (function != nullptr) return function(status);
  return library().error.empty() ? "a library of another version" : library().error.c_str();
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static const auto function = find<decltype(&cublasLtCreate)>("cublasLtCreate");
  return call(function, handle);
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  static const auto function = find<decltype(&cublasLtDestroy)>("cublasLtDestroy");
  return call(function, handle);
}

cublasStatus_t cublasLtMatmul(
    cublasLtHandle_t handle,
    cublasLtMatmulDesc_t operation,
    const void* alpha,
    const void* a,
    cublasLtMatrixLayout_t a_layout,
    const void* b,
    cublasLtMatrixLayout_t b_layout,
    const void* beta,
    const void* c,
    cublasLtMatrixLayout_t c_layout,
    void* d,
    cublasLtMatrixLayout_t d_layout,
    const cublasLtMatmulAlgo_t* algorithm,
    void* workspace,
    size_t workspace_bytes,
    cudaStream_t stream) {
  static const auto function = find<decltype(&cublasLtMatmul)>("cublasLtMatmul");
  return call(
      function, handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
      algorithm, workspace, workspace_bytes, stream);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t handle,
    cublasLtMatmulDesc_t operation,
    cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b,
    cublasLtMatrixLayout_t c,
    cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference,
    int wanted,
    cublasLtMatmulHeuristicResult_t results[],
    int* found) {
  static const auto function =
      find<decltype(&cublasLtMatmulAlgoGetHeuristic)>("cublasLtMatmulAlgoGetHeuristic");
  return call(function, handle, operation, a, b, c, d, preference, wanted, results, found);
}

cublasStatus_t cublasLtMatmulDescCreate(
    cublasLtMatmulDesc_t* operation, cublasComputeType_t compute, cudaDataType_t scale) {
  static const auto function =
      find<decltype(&cublasLtMatmulDescCreate)>("cublasLtMatmulDescCreate");
  return call(function, operation, compute, scale);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  static const auto function =
      find<decltype(&cublasLtMatmulDescDestroy)>("cublasLtMatmulDescDestroy");
  return call(function, operation);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(
    cublasLtMatmulDesc_t operation,
    cublasLtMatmulDescAttributes_t attribute,
    const void* value,
    size_t bytes) {
  static const auto function =
      find<decltype(&cublasLtMatmulDescSetAttribute)>("cublasLtMatmulDescSetAttribute");
  return call(function, operation, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  static const auto function =
      find<decltype(&cublasLtMatmulPreferenceCreate)>("cublasLtMatmulPreferenceCreate");
  return call(function, preference);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  static const auto function =
      find<decltype(&cublasLtMatmulPreferenceDestroy)>("cublasLtMatmulPreferenceDestroy");
  return call(function, preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference,
    cublasLtMatmulPreferenceAttributes_t attribute,
    const void* value,
    size_t bytes) {
  static const auto function =
      find<decltype(&cublasLtMatmulPreferenceSetAttribute)>("cublasLtMatmulPreferenceSetAttribute");
  return call(function, preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(
    cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld) {
  static const auto function =
      find<decltype(&cublasLtMatrixLayoutCreate)>("cublasLtMatrixLayoutCreate");
  return call(function, layout, type, rows, cols, ld);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  static const auto function =
      find<decltype(&cublasLtMatrixLayoutDestroy)>("cublasLtMatrixLayoutDestroy");
  return call(function, layout);
}
