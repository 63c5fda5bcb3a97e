// What a hashed n-gram table looks like: how ids become rows, and how a row is stored. Plain data
// and small enums; every published family is one value of it. Made by the model's configuration
// or read from a table file; read by hash, store and prefetch.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "memory/base/status.h"
#include "memory/base/tensor.h"

namespace engram::memory {

// Row encodings. Those with scales keep them beside the values, see RowPlace.
//   kF8Ue8m0    e4m3 values, one ue8m0 scale byte (a power of two) per 32 values
//   kF8Tensor   e4m3 values times one f32 for the whole table
//   kInt8       two's complement integers, one f16 scale per `group` values
//   kInt4       the same with two values in a byte, the first one in the low nibble
// The numbers are stored in files.
enum class RowCodec : uint8_t { kBf16, kF16, kF32, kF8Ue8m0, kF8Tensor, kInt8, kInt4 };

inline constexpr RowCodec kRowCodecs[] = {RowCodec::kBf16,    RowCodec::kF16,      RowCodec::kF32,
                                          RowCodec::kF8Ue8m0, RowCodec::kF8Tensor, RowCodec::kInt8,
                                          RowCodec::kInt4};

// "bf16", "f16", "f32", "f8_e4m3+ue8m0", "f8_e4m3", "int8", "int4".
const char* row_codec_name(RowCodec codec);
std::optional<RowCodec> parse_row_codec(std::string_view name);

// How the ids of an n-gram become one number, before the remainder by the column's modulus.
//   kXorMultiply  xor over d of id[t-d] * multipliers[d]; Engram, DeepSeek-V4.1, Qwen4-Exp
//   kPolynomial   sum over d of id[t-d] * (base^d mod modulus); LongCat-Flash
enum class Mix : uint8_t { kXorMultiply, kPolynomial };

// Where an n-gram stops looking back, besides the start of the sequence. What lies behind reads as
// fill_id, and so does everything older.
//   kNone       nowhere; Engram
//   kDeadLatch  at a negative id, which reads as fill_id itself; DeepSeek-V4.1
//   kEndOfText  at boundary_id strictly before t; the id at t always counts; Qwen4-Exp, LongCat
enum class Boundary : uint8_t { kNone, kDeadLatch, kEndOfText };

const char* mix_name(Mix mix);                 // "xor_multiply"
const char* boundary_name(Boundary boundary);  // "dead_latch"

constexpr int kMaxNgramOrder = 16;

// H columns, order-major then head; column c owns the rows [offset[c], offset[c] + modulus[c]).
struct TableGeometry {
  int layer = 0;  // block index in the model
  Mix mix = Mix::kXorMultiply;
  Boundary boundary = Boundary::kNone;
  int64_t fill_id = 0;       // in the ids that are hashed: canonical or raw ones
  int64_t boundary_id = -1;  // kEndOfText: the id that ends a text
  int64_t base = 0;          // kPolynomial
  std::vector<int> orders;   // ascending; order i has the columns [i * heads, (i+1) * heads)
  std::vector<int64_t> multipliers;  // [max order], by look-back distance; empty: kPolynomial
  std::vector<int64_t> moduli;       // [H]
  std::vector<int64_t> offsets;      // [H]
  int heads = 0;                     // per order
  int64_t rows = 0;                  // R, at least the sum of the moduli (the rest is padding)
  int64_t row_width = 0;             // r, elements
  RowCodec codec = RowCodec::kBf16;
  float tensor_scale = 1.f;  // kF8Tensor
  int group = 32;            // kInt8, kInt4: values per scale, a multiple of 16

  int columns() const { return static_cast<int>(moduli.size()); }  // H
  int max_order() const { return orders.empty() ? 0 : orders.back(); }
  int64_t vector_width() const { return columns() * row_width; }  // E = H*r
  int64_t value_bytes() const;                                    // of one row, without scales
  int64_t scale_bytes() const;                                    // of one row; 0 without scales
  int scale_group() const;                                        // values per scale; 0 without
};

// INVALID_ARGUMENT when rows of that width cannot have that codec: scales need whole groups, and a
// scale of the table is a positive number.
Status check_codec(const TableGeometry& geometry);

// INVALID_ARGUMENT names the field, what was expected and what was found. What passes can be
// hashed, its offsets and row ids stay inside the table, its byte counts fit 63 bits, and
// check_codec() holds.
Status check_geometry(const TableGeometry& geometry);

}  // namespace engram::memory
