// Rotary position embedding and the writing of keys and values to their pages.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/rope.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>
#include <cmath>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/kv_fp8-inl.h"
#include "engine/ops/cpu/lanes-inl.h"
#include "engine/ops/cpu/split_rows.h"
#include "engine/ops/op_args.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

using memory::Type;
using memory::with_activation_type;

// One head: normalised if weight is not null, its halves rotated against each other, rounded once.
// to may be from.
template <typename T, typename To>
HWY_INLINE void rotate_head(
    const T* from, const float* weight, float eps, const float* angles, int64_t half, To* to) {
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

template <typename T, typename To>
HWY_INLINE void convert_head(const T* from, int64_t width, To* to) {
  for (int64_t c = 0; c < width; c += kLanes) {
    store_part(load_part(from + c, width - c), to + c, width - c);
  }
}

// Row `row` of keys and values becomes the rotated key and the value.
template <typename T, typename C>
HWY_INLINE void append_numbers(
    const RopeAppend& a, const float* angles, const T* key, const T* value, int64_t row) {
  const int64_t width = a.kv.head_dim;
  C* to = static_cast<C*>(a.kv.keys) + row * width;
  rotate_head(key, a.k_norm.as<float>(), a.eps, angles, width / 2, to);
  convert_head(value, width, static_cast<C*>(a.kv.values) + row * width);
}

// The key is rounded once, from f32, whatever the activations are.
template <typename T>
HWY_INLINE void append_codes(
    const RopeAppend& a, const float* angles, const T* key, const T* value, int64_t row) {
  const int64_t width = a.kv.head_dim;
  alignas(64) float head[kMaxHeadDim];
  const auto quantise = [&](void* codes, uint8_t* scales) HWY_ATTR {
    std::fill(head + width, head + (width + 15) / 16 * 16, 0.f);
    quantise_head(head, width, static_cast<uint8_t*>(codes) + row * width, scales + row);
  };
  rotate_head(key, a.k_norm.as<float>(), a.eps, angles, width / 2, head);
  quantise(a.kv.keys, a.kv.key_scales);
  convert_head(value, width, head);
  quantise(a.kv.values, a.kv.value_scales);
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
  for (int64_t head = 0; head < kv_heads; ++head) {
    const T* key = q + (q_heads + head) * width;
    const T* value = key + kv_heads * width;
    const int64_t row = (page * kv_heads + head) * a.kv.page_tokens + offset;
    if (a.kv.dtype == DType::kF8E4m3) {
      append_codes(a, angles, key, value, row);
    } else if (a.kv.dtype == DType::kBf16) {
      append_numbers<T, Bf16>(a, angles, key, value, row);
    } else {
      append_numbers<T, float>(a, angles, key, value, row);
    }
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

HWY_EXPORT(rope_append_rows);

}  // namespace

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

}  // namespace engram::engine::cpu
#endif
