#include "memory/table/row_errors.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <utility>

#include "memory/table/row_decode.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory/table/row_errors.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "memory/base/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

// One row in groups of `group`; limits [groups, 2]. Only a row that is one group may have any
// width.
RowSums compare_rows(
    const float* source, const float* result, int64_t width, int64_t group, const float* limits) {
  const FloatTag d;
  FloatVec error = hn::Zero(d);
  FloatVec x2 = error;
  FloatVec y2 = error;
  FloatVec xy = error;
  FloatVec most = error;
  RowSums sums;
  int64_t i = 0;
  for (int64_t begin = 0; begin < width; begin += group, limits += 2) {
    const FloatVec low = hn::Set(d, limits[0]);
    const FloatVec high = hn::Set(d, limits[1]);
    const int64_t end = std::min(begin + group, width);
    for (i = begin; i + kFloatLanes <= end; i += kFloatLanes) {
      const FloatVec x = hn::LoadU(d, source + i);
      const FloatVec y = hn::LoadU(d, result + i);
      const FloatVec miss = hn::Sub(x, y);
      error = hn::MulAdd(miss, miss, error);
      x2 = hn::MulAdd(x, x, x2);
      y2 = hn::MulAdd(y, y, y2);
      xy = hn::MulAdd(x, y, xy);
      most = hn::Max(most, hn::Abs(miss));
      const hn::Mask<FloatTag> outside = hn::Or(hn::Lt(x, low), hn::Gt(x, high));
      sums.outside += static_cast<int64_t>(hn::CountTrue(d, outside));
    }
    if (end == width) limits -= 2;  // of the last group, for what is left of the row
  }
  sums.error = hn::GetLane(hn::SumOfLanes(d, error));
  sums.source = hn::GetLane(hn::SumOfLanes(d, x2));
  sums.result = hn::GetLane(hn::SumOfLanes(d, y2));
  sums.dot = hn::GetLane(hn::SumOfLanes(d, xy));
  sums.most = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < width; ++i) {
    const float miss = source[i] - result[i];
    sums.error += miss * miss;
    sums.source += source[i] * source[i];
    sums.result += result[i] * result[i];
    sums.dot += source[i] * result[i];
    sums.most = std::max(sums.most, std::fabs(miss));
    if (source[i] < limits[0] || source[i] > limits[1]) ++sums.outside;
  }
  return sums;
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::memory {

HWY_EXPORT(compare_rows);

namespace {

float load_scale(const uint8_t* scales, int64_t index) {
  F16 half;
  std::memcpy(&half, scales + 2 * index, 2);
  return half_to_float(half);
}

}  // namespace

RowErrors::RowErrors(TableGeometry geometry) : geometry_(std::move(geometry)) {
  const int group = geometry_.scale_group();
  const int64_t groups = group == 0 ? 1 : geometry_.row_width / group;
  decoded_.resize(static_cast<size_t>(geometry_.row_width));
  limits_.resize(static_cast<size_t>(2 * groups));
  find_limits(nullptr);
}

// Half a step beyond the largest number. Codecs without scales have the same limits for every row.
void RowErrors::find_limits(const uint8_t* scales) {
  const float unlimited = std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < limits_.size(); i += 2) {
    const int64_t group = static_cast<int64_t>(i / 2);
    float low = -unlimited;
    float high = unlimited;
    switch (geometry_.codec) {
      case RowCodec::kF32:
      case RowCodec::kBf16:
        break;
      case RowCodec::kF16:
        high = 65520.f;
        low = -high;
        break;
      case RowCodec::kF8Tensor:
        high = 464.f * geometry_.tensor_scale;
        low = -high;
        break;
      case RowCodec::kF8Ue8m0:
        high = 464.f * (scales == nullptr ? 1.f : e8m0_to_float(scales[group]));
        low = -high;
        break;
      case RowCodec::kInt8:
      case RowCodec::kInt4: {
        const float scale = scales == nullptr ? 1.f : load_scale(scales, group);
        const bool narrow = geometry_.codec == RowCodec::kInt4;
        const float ends[2] = {
            (narrow ? -8.5f : -127.5f) * scale, (narrow ? 7.5f : 127.5f) * scale};
        low = std::min(ends[0], ends[1]);
        high = std::max(ends[0], ends[1]);
        break;
      }
    }
    limits_[i] = low;
    limits_[i + 1] = high;
  }
}

void RowErrors::add_row(const float* source, const uint8_t* values, const uint8_t* scales) {
  const int group = geometry_.scale_group();
  const int64_t width = geometry_.row_width;
  decode_row(geometry_, values, scales, DType::kF32, decoded_.data());
  if (group != 0) find_limits(scales);
  const RowSums sums = HWY_DYNAMIC_DISPATCH(compare_rows)(
      source, decoded_.data(), width, group == 0 ? std::max<int64_t>(1, width) : group,
      limits_.data());
  ++rows_;
  if (!std::isfinite(sums.source)) {
    ++not_finite_rows_;
    return;
  }
  saturated_ += sums.outside;
  squared_error_ += static_cast<double>(sums.error);
  squared_source_ += static_cast<double>(sums.source);
  max_abs_error_ = std::max(max_abs_error_, static_cast<double>(sums.most));
  if (sums.source == 0.f) {
    ++zero_rows_;
    return;
  }
  const double norms =
      std::sqrt(static_cast<double>(sums.source)) * std::sqrt(static_cast<double>(sums.result));
  const double cosine = norms == 0. ? 0. : std::min(1., static_cast<double>(sums.dot) / norms);
  cosines_ += cosine;
  min_cosine_ = std::min(min_cosine_, cosine);
}

void RowErrors::add(const float* source, int64_t count, const RowPlace& encoded) {
  for (int64_t r = 0; r < count; ++r) {
    const uint8_t* scales =
        encoded.scales == nullptr ? nullptr : encoded.scales + r * encoded.scale_stride;
    add_row(source + r * geometry_.row_width, encoded.values + r * encoded.value_stride, scales);
  }
}

void RowErrors::merge(const RowErrors& other) {
  rows_ += other.rows_;
  zero_rows_ += other.zero_rows_;
  not_finite_rows_ += other.not_finite_rows_;
  saturated_ += other.saturated_;
  squared_error_ += other.squared_error_;
  squared_source_ += other.squared_source_;
  max_abs_error_ = std::max(max_abs_error_, other.max_abs_error_);
  cosines_ += other.cosines_;
  min_cosine_ = std::min(min_cosine_, other.min_cosine_);
}

RowErrorReport RowErrors::report() const {
  RowErrorReport r;
  r.codec = row_codec_name(geometry_.codec);
  r.rows = rows_;
  r.zero_rows = zero_rows_;
  r.not_finite_rows = not_finite_rows_;
  r.values = (rows_ - not_finite_rows_) * geometry_.row_width;
  r.saturated = saturated_;
  r.nmse = squared_source_ == 0. ? 0. : squared_error_ / squared_source_;
  r.max_abs_error = max_abs_error_;
  r.min_cosine = min_cosine_;
  const int64_t with_cosine = rows_ - not_finite_rows_ - zero_rows_;
  if (with_cosine > 0) r.mean_cosine = cosines_ / static_cast<double>(with_cosine);
  return r;
}

std::string RowErrorReport::text() const {
  char line[320];
  const double share =
      values == 0 ? 0. : static_cast<double>(saturated) / static_cast<double>(values);
  std::snprintf(
      line, sizeof(line),
      "%s: %lld rows, NMSE %.3g, largest error %.3g, cosine %.6f mean, %.6f least, "
      "%.3g %% saturated",
      codec.c_str(), static_cast<long long>(rows), nmse, max_abs_error, mean_cosine, min_cosine,
      100. * share);
  std::string all = line;
  if (zero_rows > 0) all += ", " + std::to_string(zero_rows) + " rows of zeros";
  if (not_finite_rows > 0) all += ", " + std::to_string(not_finite_rows) + " rows NOT FINITE";
  return all;
}

}  // namespace engram::memory
#endif
