// How far encoded rows are from their source: sums that grow row by row, for converters. One thread
// each; merge() adds up those of several.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "memory/table/geometry.h"
#include "memory/table/row_place.h"

namespace engram::memory {

struct RowErrorReport {
  std::string codec;
  int64_t rows = 0;
  int64_t zero_rows = 0;        // all zero in the source; they have no cosine
  int64_t not_finite_rows = 0;  // with NaN or infinity in the source; in no figure below
  int64_t values = 0;           // of the finite rows
  int64_t saturated = 0;  // clipped: beyond the largest number of their scale by over half a step
  double nmse = 0.;       // squared error over squared source
  double max_abs_error = 0.;
  double min_cosine = 1.;  // between a source row and what it decodes to
  double mean_cosine = 1.;

  // "int4: 1000000 rows, NMSE 1.1e-2, ...": one line.
  std::string text() const;
};

// Of one row.
struct RowSums {
  float error = 0.f;   // squared
  float source = 0.f;  // squared
  float result = 0.f;  // squared
  float dot = 0.f;
  float most = 0.f;  // largest magnitude of an error
  int64_t outside = 0;
};

class RowErrors {
 public:
  // REQUIRES check_codec(). The copy of `geometry` is the errors' own.
  explicit RowErrors(TableGeometry geometry);

  // source [count, r], one row after the other; `encoded`: what encode_rows() made of them.
  void add(const float* source, int64_t count, const RowPlace& encoded);
  void merge(const RowErrors& other);
  RowErrorReport report() const;

 private:
  void add_row(const float* source, const uint8_t* values, const uint8_t* scales);
  void find_limits(const uint8_t* scales);

  TableGeometry geometry_;
  std::vector<float> decoded_;  // one row
  std::vector<float> limits_;   // per group of a row: least and largest value that is not clipped
  int64_t rows_ = 0;
  int64_t zero_rows_ = 0;
  int64_t not_finite_rows_ = 0;
  int64_t saturated_ = 0;
  double squared_error_ = 0.;
  double squared_source_ = 0.;
  double max_abs_error_ = 0.;
  double cosines_ = 0.;
  double min_cosine_ = 1.;
};

}  // namespace engram::memory
