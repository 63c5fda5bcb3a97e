// How the threads of a block share out a row: how much one access moves, and how many threads there
// are. Host code.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "memory/base/tensor.h"

namespace engram::engine::cuda {

// How many elements of every row of these views one access may move: as many as fill 16 bytes
// where all rows begin at multiples of 16 bytes and are made of whole accesses, else one.
// `columns` is how many elements are addressed as one: a row's, or those of each of its parts.
inline int pack_width(int64_t columns, std::initializer_list<memory::View> views) {
  for (const memory::View& view : views) {
    const int64_t bytes = memory::dtype_bytes(view.dtype);
    const bool aligned = reinterpret_cast<uintptr_t>(view.data) % 16 == 0 &&
                         (view.rows <= 1 || view.stride * bytes % 16 == 0);
    if (!aligned || columns * bytes % 16 != 0) return 1;
  }
  return static_cast<int>(16 / memory::dtype_bytes(views.begin()->dtype));
}

// Calls f(Type<T>{}, std::integral_constant<int, N>{}) with the activation type and what
// pack_width() said.
template <typename F>
void with_pack(memory::DType dtype, int width, F&& f) {
  memory::with_activation_type(dtype, [&]<typename T>(memory::Type<T> type) {
    constexpr int kWide = static_cast<int>(16 / sizeof(T));
    if (width == kWide) return f(type, std::integral_constant<int, kWide>{});
    f(type, std::integral_constant<int, 1>{});
  });
}

// One thread per access of a row, in whole warps.
inline int threads_of_row(int64_t cols, int width) {
  constexpr int64_t kMaxThreads = 512;
  const int64_t accesses = (cols + width - 1) / width;
  return static_cast<int>(std::min((accesses + 31) / 32 * 32, kMaxThreads));
}

}  // namespace engram::engine::cuda
