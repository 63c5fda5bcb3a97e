// Ops that treat each element or each row alone: norms, sums, gating, row copies.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/pointwise.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <cmath>
#include <cstring>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/lanes-inl.h"
#include "engine/ops/cpu/split_rows.h"
#include "engine/ops/op_args.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

using memory::Type;
using memory::with_activation_type;

// y may be x: an element is read before it is written.
template <typename T>
HWY_INLINE void norm_row(const T* x, const float* weight, int64_t cols, float eps, T* y) {
  const float mean = square_sum(x, cols) / static_cast<float>(cols);
  const VF scale = hn::Set(Floats(), 1.f / std::sqrt(mean + eps));
  for (int64_t c = 0; c < cols; c += kLanes) {
    const VF v = hn::Mul(load_part(x + c, cols - c), scale);
    store_part(hn::Mul(v, load_part(weight + c, cols - c)), y + c, cols - c);
  }
}

template <typename T>
HWY_INLINE void add_row(T* h, const T* x, int64_t cols) {
  for (int64_t c = 0; c < cols; c += kLanes) {
    const VF sum = hn::Add(load_part(h + c, cols - c), load_part(x + c, cols - c));
    store_part(sum, h + c, cols - c);
  }
}

void rms_norm_rows(View x, const float* weight, float eps, View y, int64_t begin, int64_t end) {
  with_activation_type(x.dtype, [&]<typename T>(Type<T>) HWY_ATTR {
    for (int64_t t = begin; t < end; ++t) {
      norm_row(x.row<T>(t), weight, x.cols, eps, y.row<T>(t));
    }
  });
}

void add_rms_norm_rows(
    View h, View x, const float* weight, float eps, View y, int64_t begin, int64_t end) {
  with_activation_type(h.dtype, [&]<typename T>(Type<T>) HWY_ATTR {
    for (int64_t t = begin; t < end; ++t) {
      add_row(h.row<T>(t), x.row<T>(t), h.cols);
      norm_row(h.row<T>(t), weight, h.cols, eps, y.row<T>(t));
    }
  });
}

void add_rows(View h, View x, int64_t begin, int64_t end) {
  with_activation_type(h.dtype, [&]<typename T>(Type<T>) HWY_ATTR {
    for (int64_t t = begin; t < end; ++t) add_row(h.row<T>(t), x.row<T>(t), h.cols);
  });
}

void silu_mul_rows(View gate_up, View y, int64_t begin, int64_t end) {
  with_activation_type(y.dtype, [&]<typename T>(Type<T>) HWY_ATTR {
    for (int64_t t = begin; t < end; ++t) {
      const T* gate = gate_up.row<T>(t);
      const T* up = gate + y.cols;
      T* out = y.row<T>(t);
      for (int64_t c = 0; c < y.cols; c += kLanes) {
        const int64_t left = y.cols - c;
        const VF v = silu_lanes(load_part(gate + c, left));
        store_part(hn::Mul(v, load_part(up + c, left)), out + c, left);
      }
    }
  });
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::engine::cpu {
namespace {

HWY_EXPORT(rms_norm_rows);
HWY_EXPORT(add_rms_norm_rows);
HWY_EXPORT(add_rows);
HWY_EXPORT(silu_mul_rows);

}  // namespace

void CpuOps::do_rms_norm(Stream& stream, View x, View weight, float eps, View y) {
  as_cpu(stream).enqueue([=, this] {
    split_rows(device_.workers(), x.rows, 2 * x.cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(rms_norm_rows)(x, weight.as<float>(), eps, y, begin, end);
    });
  });
}

void CpuOps::do_add_rms_norm(Stream& stream, View h, View x, View weight, float eps, View y) {
  as_cpu(stream).enqueue([=, this] {
    split_rows(device_.workers(), h.rows, 4 * h.cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(add_rms_norm_rows)(h, x, weight.as<float>(), eps, y, begin, end);
    });
  });
}

void CpuOps::do_add(Stream& stream, View h, View x) {
  as_cpu(stream).enqueue([=, this] {
    split_rows(device_.workers(), h.rows, 2 * h.cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(add_rows)(h, x, begin, end);
    });
  });
}

void CpuOps::do_silu_mul(Stream& stream, View gate_up, View y) {
  as_cpu(stream).enqueue([=, this] {
    split_rows(device_.workers(), y.rows, 4 * y.cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(silu_mul_rows)(gate_up, y, begin, end);
    });
  });
}

void CpuOps::do_gather_rows(Stream& stream, View x, const int32_t* rows, View out) {
  as_cpu(stream).enqueue([=, this] {
    const int64_t bytes = memory::dtype_bytes(x.dtype);
    split_rows(device_.workers(), out.rows, out.cols, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        std::memcpy(
            out.as<char>() + i * out.stride * bytes, x.as<char>() + rows[i] * x.stride * bytes,
            static_cast<size_t>(out.cols * bytes));
      }
    });
  });
}

}  // namespace engram::engine::cpu
#endif
