#include <algorithm>
#include <cstring>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/panels.h"

namespace engram::engine::cpu {
namespace {

using memory::Bf16;
using memory::F16;

float widen(Bf16 value) {
  return static_cast<float>(value);
}
float widen(F16 value) {
  return memory::half_to_float(value);
}
float widen(float value) {
  return value;
}

// Calls f(Type<T>{}) with the C++ type of a weight dtype.
template <typename F>
void with_weight_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kBf16:
      return f(memory::Type<Bf16>{});
    case DType::kF16:
      return f(memory::Type<F16>{});
    default:
      ENGRAM_CHECK(dtype == DType::kF32);
      return f(memory::Type<float>{});
  }
}

// Rows of one panel that `source` covers, from source row `from` on: all of them for some inputs,
// then the next inputs, so that the panel's lines are written once.
template <typename T>
void pack_panel(const Matrix& matrix, int64_t row, View source, int64_t from, int64_t count) {
  constexpr int64_t kInputs = 64;
  T* panel = reinterpret_cast<T*>(panel_at(matrix, row / kPanelRows, 0));
  for (int64_t first = 0; first < matrix.cols; first += kInputs) {
    const int64_t end = std::min(first + kInputs, matrix.cols);
    for (int64_t i = 0; i < count; ++i) {
      const T* in = source.row<T>(from + i);
      T* out = panel + panel_slot(matrix.dtype, row % kPanelRows + i);
      for (int64_t k = first; k < end; ++k) out[k * kPanelRows] = in[k];
    }
  }
}

// The same for codes of f8_e4m3.
void pack_codes(const Matrix& matrix, int64_t row, View source, int64_t from, int64_t count) {
  constexpr int64_t kInputs = 64;
  char* panel = panel_at(matrix, row / kPanelRows, 0);
  for (int64_t first = 0; first < matrix.cols; first += kInputs) {
    const int64_t end = std::min(first + kInputs, matrix.cols);
    for (int64_t i = 0; i < count; ++i) {
      const char* in = source.row<char>(from + i);
      char* out = panel + 2 * (row % kPanelRows + i);
      int64_t k = first;
      for (; k + 2 <= end; k += 2) std::memcpy(out + k * kPanelRows, in + k, 2);
      if (k < end) out[k * kPanelRows] = in[k];
    }
  }
}

template <typename T, typename Act>
void embed_row(const Matrix& table, int64_t row, Act* out) {
  const T* in = reinterpret_cast<const T*>(panel_at(table, row / kPanelRows, 0)) +
                panel_slot(table.dtype, row % kPanelRows);
  for (int64_t k = 0; k < table.cols; ++k) out[k] = Act(widen(in[k * kPanelRows]));
}

}  // namespace

int64_t CpuOps::matrix_bytes(DType dtype, int64_t rows, int64_t cols) const {
  const Matrix shape{.rows = rows, .cols = cols, .dtype = dtype};
  return panel_count(rows) * kPanelRows * panel_cols(shape) * memory::dtype_bytes(dtype);
}

void CpuOps::do_load_rows(const Matrix& matrix, int64_t first, View source) {
  // One part per panel that is touched: parts never share a line.
  const int64_t first_panel = first / kPanelRows;
  const int64_t panels = panel_count(first + source.rows) - first_panel;
  device_.workers().run(panels, [&](int64_t part) {
    const int64_t row = std::max(first, (first_panel + part) * kPanelRows);
    const int64_t end = std::min(first + source.rows, (first_panel + part + 1) * kPanelRows);
    if (matrix.dtype == DType::kF8E4m3) {
      return pack_codes(matrix, row, source, row - first, end - row);
    }
    with_weight_type(matrix.dtype, [&]<typename T>(memory::Type<T>) {
      pack_panel<T>(matrix, row, source, row - first, end - row);
    });
  });
}

void CpuOps::do_embed(Stream& stream, const Matrix& table, const Batch& batch, View out) {
  const int32_t* ids = batch.ids;
  memory::as_cpu(stream).enqueue([this, table, ids, out] {
    device_.workers().run(out.rows, [&](int64_t t) {
      const int64_t row = ids[t];
      ENGRAM_CHECK(row >= 0);
      ENGRAM_CHECK(row < table.rows);
      with_weight_type(table.dtype, [&]<typename T>(memory::Type<T>) {
        memory::with_activation_type(out.dtype, [&]<typename Act>(memory::Type<Act>) {
          embed_row<T>(table, row, out.row<Act>(t));
        });
      });
    });
  });
}

}  // namespace engram::engine::cpu
