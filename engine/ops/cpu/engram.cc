// The Engram ops: the gate between memory and stream, and the short causal convolution.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/engram.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>
#include <cmath>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/lanes-inl.h"
#include "engine/ops/cpu/split_rows.h"
#include "engine/ops/op_args.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

using memory::Type;
using memory::with_activation_type;

// sigmoid(sign(s) sqrt(max(|s|, 1e-6))), 0.5 at s = 0. NaN stays NaN.
inline float gate_of(double s) {
  if (s == 0.0) return 0.5f;
  const double root = std::sqrt(std::abs(s) < 1e-6 ? 1e-6 : std::abs(s));
  return static_cast<float>(1.0 / (1.0 + std::exp(s < 0.0 ? root : -root)));
}

// <rms_norm(key), rms_norm(h)> / sqrt(cols) in one pass over both rows.
template <typename T>
HWY_INLINE double gate_score(
    const T* key,
    const T* h,
    const float* key_norm,
    const float* query_norm,
    float eps,
    int64_t cols) {
  VF dot = hn::Zero(Floats());
  VF key_squares = dot;
  VF h_squares = dot;
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t left = cols - c;
    const VF k = load_part(key + c, left);
    const VF q = load_part(h + c, left);
    key_squares = hn::MulAdd(k, k, key_squares);
    h_squares = hn::MulAdd(q, q, h_squares);
    const VF weight = hn::Mul(load_part(key_norm + c, left), load_part(query_norm + c, left));
    dot = hn::MulAdd(hn::Mul(k, q), weight, dot);
  }
  const double width = static_cast<double>(cols);
  const double key_mean = sum_lanes(key_squares) / width + eps;
  const double h_mean = sum_lanes(h_squares) / width + eps;
  return sum_lanes(dot) / (std::sqrt(key_mean) * std::sqrt(h_mean) * std::sqrt(width));
}

template <typename T>
HWY_INLINE void add_pending(const EngramGate& a, int64_t t) {
  T* h = a.h.row<T>(t);
  const T* pending = a.pending.row<T>(t);
  for (int64_t c = 0; c < a.h.cols; c += kLanes) {
    const int64_t left = a.h.cols - c;
    store_part(hn::Add(load_part(h + c, left), load_part(pending + c, left)), h + c, left);
  }
}

template <typename T>
void engram_gate_row(const EngramGate& a, int64_t t) {
  if (!a.pending.empty()) add_pending<T>(a, t);
  const int64_t cols = a.value.cols;
  const T* value = a.value.row<T>(t);
  for (int64_t g = 0; g < a.gates.cols; ++g) {
    const float gate = gate_of(gate_score(
        a.key.row<T>(t) + g * cols, a.h.row<T>(t) + g * cols, a.key_norm.row<float>(g),
        a.query_norm.row<float>(g), a.eps, cols));
    a.gates.row<float>(t)[g] = gate;
    T* u = a.u.row<T>(t) + g * cols;
    for (int64_t c = 0; c < cols; c += kLanes) {
      const VF v = load_part(value + c, cols - c);
      store_part(hn::Mul(v, hn::Set(Floats(), gate)), u + c, cols - c);
    }
  }
}

void engram_gate_rows(const EngramGate& args, int64_t begin, int64_t end) {
  with_activation_type(args.u.dtype, [&]<typename T>(Type<T>) {
    for (int64_t t = begin; t < end; ++t) engram_gate_row<T>(args, t);
  });
}

// q of the tokens [begin, end) to their cache slots.
template <typename T>
void conv_inputs(const ShortConv& a, int64_t begin, int64_t end) {
  const int64_t cols = a.norm.cols;
  for (int64_t t = begin; t < end; ++t) {
    T* to = static_cast<T*>(a.layer.inputs) + a.batch.slots[t] * a.layer.width;
    for (int64_t g = 0; g < a.norm.rows; ++g) {
      const T* u = a.u.row<T>(t) + g * cols;
      const float* weight = a.norm.row<float>(g);
      const float mean = square_sum(u, cols) / static_cast<float>(cols);
      const VF scale = hn::Set(Floats(), 1.f / std::sqrt(mean + a.eps));
      for (int64_t c = 0; c < cols; c += kLanes) {
        const VF v = hn::Mul(load_part(u + c, cols - c), scale);
        const VF q = hn::Mul(v, load_part(weight + c, cols - c));
        store_part(q, to + g * cols + c, cols - c);
      }
    }
  }
}

void short_conv_inputs(const ShortConv& args, int64_t begin, int64_t end) {
  with_activation_type(
      args.u.dtype, [&]<typename T>(Type<T>) { conv_inputs<T>(args, begin, end); });
}

// The cache row `back` positions before token t, null before position 0.
template <typename T>
const T* conv_row(const ShortConv& a, int64_t t, int64_t back) {
  const int64_t position = a.batch.positions[t] - back;
  if (position < 0) return nullptr;
  const int32_t* pages = a.batch.page_table + a.batch.sequence_of[t] * a.batch.max_pages;
  const int64_t page = pages[position / a.layer.page_tokens];
  const int64_t slot = page * a.layer.page_tokens + position % a.layer.page_tokens;
  return static_cast<const T*>(a.layer.inputs) + slot * a.layer.width;
}

// What one pass of conv_taps() makes.
constexpr int64_t kColumns = 64;
constexpr int64_t kTokens = 32;

// Weights of the columns [first, first + count) as [tap][kColumns]: the checkpoint has the taps of
// a channel side by side.
HWY_INLINE void copy_tap(const View& conv, int64_t first, int64_t count, int64_t tap, float* to) {
  for (int64_t c = 0; c < count; ++c) to[c] = conv.row<float>(first + c)[tap];
}

// h += u + silu(y) for the columns [first, first + count) of token t, whose y is given.
template <typename T>
HWY_INLINE void conv_output(
    const ShortConv& a, int64_t t, int64_t first, int64_t count, const float* y) {
  T* h = a.h.row<T>(t) + first;
  const T* u = a.u.row<T>(t) + first;
  for (int64_t c = 0; c < count; c += kLanes) {
    const VF added = hn::Add(load_part(u + c, count - c), silu_lanes(hn::Load(Floats(), y + c)));
    store_part(hn::Add(load_part(h + c, count - c), added), h + c, count - c);
  }
}

// Tap by tap in ascending order; a tap before the sequence start adds nothing.
template <typename T>
void conv_taps(const ShortConv& a, int64_t begin, int64_t end) {
  const int64_t taps = a.conv.cols;
  alignas(64) float y[kTokens][kColumns];
  alignas(64) float weights[kColumns] = {};
  for (int64_t first = 0; first < a.layer.width; first += kColumns) {
    const int64_t count = std::min(kColumns, a.layer.width - first);
    for (int64_t t0 = begin; t0 < end; t0 += kTokens) {
      const int64_t tokens = std::min(kTokens, end - t0);
      std::fill_n(&y[0][0], tokens * kColumns, 0.f);
      for (int64_t tap = 0; tap < taps; ++tap) {
        copy_tap(a.conv, first, count, tap, weights);
        for (int64_t i = 0; i < tokens; ++i) {
          const T* q = conv_row<T>(a, t0 + i, (taps - 1 - tap) * a.dilation);
          if (q == nullptr) continue;
          for (int64_t c = 0; c < count; c += kLanes) {
            const VF v = load_part(q + first + c, count - c);
            const VF sum =
                hn::MulAdd(hn::Load(Floats(), weights + c), v, hn::Load(Floats(), y[i] + c));
            hn::Store(sum, Floats(), y[i] + c);
          }
        }
      }
      for (int64_t i = 0; i < tokens; ++i) conv_output<T>(a, t0 + i, first, count, y[i]);
    }
  }
}

void short_conv_taps(const ShortConv& args, int64_t begin, int64_t end) {
  with_activation_type(args.u.dtype, [&]<typename T>(Type<T>) { conv_taps<T>(args, begin, end); });
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::engine::cpu {
namespace {

HWY_EXPORT(engram_gate_rows);
HWY_EXPORT(short_conv_inputs);
HWY_EXPORT(short_conv_taps);

}  // namespace

void CpuOps::do_engram_gate(
    Stream& stream,
    View key,
    View value,
    View h,
    View pending,
    View key_norm,
    View query_norm,
    float eps,
    View gates,
    View u) {
  const EngramGate args{key, value, h, pending, key_norm, query_norm, eps, gates, u};
  as_cpu(stream).enqueue([args, this] {
    split_rows(device_.workers(), args.u.rows, 4 * args.u.cols, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(engram_gate_rows)(args, begin, end);
    });
  });
}

void CpuOps::do_short_conv(
    Stream& stream,
    const Batch& batch,
    View u,
    View norm,
    float eps,
    View conv,
    int dilation,
    const ConvLayer& layer,
    View h) {
  const ShortConv args{batch, u, norm, eps, conv, dilation, layer, h};
  as_cpu(stream).enqueue([args, this] {
    // All inputs are in the cache before the first tap is read: a token's taps reach into those of
    // its own batch.
    const int64_t width = args.layer.width;
    split_rows(device_.workers(), args.u.rows, 2 * width, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(short_conv_inputs)(args, begin, end);
    });
    const int64_t taps = args.conv.cols;
    split_rows(device_.workers(), args.u.rows, (4 + taps) * width, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(short_conv_taps)(args, begin, end);
    });
  });
}

}  // namespace engram::engine::cpu
#endif
