// Ops that treat each element or each row alone: norms, sums, rotation, gating, row copies.
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

// One head: normalised if weight is not null, its halves rotated against each other, rounded once.
// to may be from.
template <typename T>
HWY_INLINE void rotate_head(
    const T* from, const float* weight, float eps, const float* angles, int64_t half, T* to) {
  VF scale = hn::Set(Floats(), 1.f);
  if (weight != nullptr) {
    const float mean = square_sum(from, 2 * half) / static_cast<float>(2 * half);
    scale = hn::Set(Floats(), 1.f / std::sqrt(mean + eps));
  }
  for (int64_t c = 0; c < half; c += kLanes) {
    const int64_t left = half - c;
    VF a = load_part(from + c, left);
    VF b = load_part(from + half + c, left);
    if (weight != nullptr) {
      a = hn::Mul(hn::Mul(a, scale), load_part(weight + c, left));
      b = hn::Mul(hn::Mul(b, scale), load_part(weight + half + c, left));
    }
    const VF cosine = load_part(angles + c, left);
    const VF sine = load_part(angles + half + c, left);
    store_part(hn::NegMulAdd(b, sine, hn::Mul(a, cosine)), to + c, left);
    store_part(hn::MulAdd(a, sine, hn::Mul(b, cosine)), to + half + c, left);
  }
}

template <typename T>
void rope_append_row(const RopeAppend& a, int64_t t) {
  const int64_t width = a.kv.head_dim;
  const int64_t kv_heads = a.kv.kv_heads;
  const int64_t q_heads = a.qkv.cols / width - 2 * kv_heads;
  const float* angles = a.angles.row<float>(t);
  T* q = a.qkv.row<T>(t);
  for (int64_t head = 0; head < q_heads; ++head) {
    rotate_head(q + head * width, a.q_norm.as<float>(), a.eps, angles, width / 2, q + head * width);
  }
  const int64_t page = a.slots[t] / a.kv.page_tokens;
  const int64_t offset = a.slots[t] % a.kv.page_tokens;
  const T* k = q + q_heads * width;
  const T* v = k + kv_heads * width;
  for (int64_t head = 0; head < kv_heads; ++head) {
    const int64_t at = ((page * kv_heads + head) * a.kv.page_tokens + offset) * width;
    rotate_head(
        k + head * width, a.k_norm.as<float>(), a.eps, angles, width / 2,
        static_cast<T*>(a.kv.keys) + at);
    std::memcpy(
        static_cast<T*>(a.kv.values) + at, v + head * width,
        static_cast<size_t>(width) * sizeof(T));
  }
}

void rope_append_rows(const RopeAppend& args, int64_t begin, int64_t end) {
  with_activation_type(args.qkv.dtype, [&]<typename T>(Type<T>) HWY_ATTR {
    for (int64_t t = begin; t < end; ++t) rope_append_row<T>(args, t);
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
HWY_EXPORT(rope_append_rows);

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

void CpuOps::do_rope_angles(
    Stream& stream, const Batch& batch, View frequencies, double scale, View angles) {
  as_cpu(stream).enqueue([=, this, positions = batch.positions] {
    constexpr int64_t kSineElements = 32;  // a sine costs what so many elements cost elsewhere
    split_rows(
        device_.workers(), angles.rows, kSineElements * angles.cols,
        [&](int64_t begin, int64_t end) {
          const int64_t half = frequencies.cols;
          for (int64_t t = begin; t < end; ++t) {
            float* row = angles.row<float>(t);
            for (int64_t i = 0; i < half; ++i) {
              const double angle = positions[t] * frequencies.as<double>()[i];
              row[i] = static_cast<float>(scale * std::cos(angle));
              row[half + i] = static_cast<float>(scale * std::sin(angle));
            }
          }
        });
  });
}

void CpuOps::do_rope_append(
    Stream& stream,
    const Batch& batch,
    View qkv,
    View q_norm,
    View k_norm,
    float eps,
    View angles,
    const KvLayer& kv) {
  const RopeAppend args{batch.slots, qkv, q_norm, k_norm, eps, angles, kv};
  as_cpu(stream).enqueue([args, this] {
    split_rows(
        device_.workers(), args.qkv.rows, 2 * args.qkv.cols, [&](int64_t begin, int64_t end) {
          HWY_DYNAMIC_DISPATCH(rope_append_rows)(args, begin, end);
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
