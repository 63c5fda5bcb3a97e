// Rows of every format in the memory of a table, and the gathers, copies and reads of them that
// gather_bench times. One thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "memory/device/host_memory.h"
#include "memory/table/row_store.h"
#include "tests/bench/bench.h"
#include "tests/bench/peaks.h"

namespace engram::bench {

inline constexpr int64_t kColumns = 16;

struct Format {
  const char* name;
  memory::RowCodec codec;
  int64_t width;
  bool interleaved = false;
};
struct Sizes {
  int64_t tokens = 8192;      // of one run
  int64_t ring_tokens = 128;  // staging that stays in cache
  int64_t runs = 16;          // with rows of their own, before rows are asked for again
};

// Returns when all loads before it are done: else the processor works on the rows of the next token
// meanwhile, of which a lookup on its own has none.
inline void finish_loads() {
#if defined(__x86_64__)
  __builtin_ia32_lfence();
#elif defined(__aarch64__)
  asm volatile("dsb ld" ::: "memory");
#endif
}

// A format laid over the bytes of a table, with what is timed on it.
class TableRows {
 public:
  TableRows(const Format& format, uint8_t* data, int64_t bytes, const Sizes& sizes)
      : sizes_(sizes), failed_() {
    memory::TableGeometry g;
    g.codec = format.codec;
    g.row_width = format.width;
    g.tensor_scale = 0.01f;
    value_bytes_ = g.value_bytes();
    scale_bytes_ = g.scale_bytes();
    const int64_t stride = value_bytes_ + scale_bytes_;
    const int64_t column_rows = bytes / stride / kColumns;
    for (int64_t c = 0; c < kColumns; ++c) {
      g.moduli.push_back(column_rows);
      g.offsets.push_back(c * column_rows);
    }
    g.rows = kColumns * column_rows;
    place_ = {data, nullptr, value_bytes_, scale_bytes_};
    if (scale_bytes_ > 0) place_.scales = data + g.rows * value_bytes_;
    if (format.interleaved) place_ = {data, data + value_bytes_, stride, stride};
    draw_ids(g);
    staging_ = allocate("staging", sizes.ring_tokens * kColumns * (format.width * 4 + 64));
    width_ = g.vector_width();
    memory::Result<std::unique_ptr<memory::HostRowStore>> store = memory::make_host_row_store(
        std::move(g),
        {.place = place_, .bytes = bytes, .owner = {}, .where = "host", .version = "0"});
    ENGRAM_CHECK(store.ok());
    store_ = std::move(store).value();
  }

  void gather(memory::DType dtype) { gather_tokens(dtype, sizes_.tokens); }
  // Token by token, each waiting for its rows.
  void gather_one_by_one(memory::DType dtype) { gather_tokens(dtype, 1); }
  // `element` bytes are written for each element of a row; 0: the stored bytes.
  void copy(int64_t ahead, bool second_level, int64_t element) {
    copy_tokens(sizes_.tokens, ahead, second_level, element);
  }
  void copy_one_by_one(bool second_level, int64_t element) {
    copy_tokens(1, kColumns, second_level, element);
  }
  void read_first_lines(bool one_by_one) {
    const RowReads reads = {
        .rows = place_.values,
        .stride = place_.value_stride,
        .ids = next_ids(),
        .count = sizes_.tokens * kColumns,
        .one_by_one = one_by_one};
    ENGRAM_CHECK(read_rows(reads) != 0);
  }

 private:
  void draw_ids(const memory::TableGeometry& g) {
    ids_.resize(static_cast<size_t>(sizes_.runs * sizes_.tokens * kColumns));
    slots_.resize(static_cast<size_t>(sizes_.tokens));
    for (int64_t t = 0; t < sizes_.tokens; ++t) {
      slots_[static_cast<size_t>(t)] = static_cast<int32_t>(t % sizes_.ring_tokens);
    }
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < ids_.size(); ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const size_t column = i % kColumns;
      const uint64_t draw = (state >> 20) % static_cast<uint64_t>(g.moduli[column]);
      ids_[i] = g.offsets[column] + static_cast<int64_t>(draw);
    }
  }
  void gather_tokens(memory::DType dtype, int64_t at_a_time) {
    const memory::View out = memory::make_view(staging_.data(), dtype, sizes_.ring_tokens, width_);
    const int64_t* ids = next_ids();
    for (int64_t t = 0; t < sizes_.tokens; t += at_a_time) {
      const memory::Status status =
          store_->gather(ids + t * kColumns, slots_.data() + t, at_a_time, out, &failed_);
      ENGRAM_CHECK(status.ok());
      if (at_a_time == 1) finish_loads();
    }
  }
  void copy_tokens(int64_t at_a_time, int64_t ahead, bool second_level, int64_t element) {
    const int64_t* ids = next_ids();
    for (int64_t t = 0; t < sizes_.tokens; t += at_a_time) {
      copy_rows(
          {.place = place_,
           .value_bytes = value_bytes_,
           .scale_bytes = scale_bytes_,
           .ids = ids + t * kColumns,
           .count = at_a_time * kColumns,
           .ahead = ahead,
           .second_level = second_level,
           .to = staging_.as<uint8_t>(),
           .ring_rows = sizes_.ring_tokens * kColumns,
           .out_bytes = element * width_ / kColumns});
      if (at_a_time == 1) finish_loads();
    }
  }
  // Every run asks for other rows, so that none comes from a cache that is smaller than the table.
  const int64_t* next_ids() {
    run_ = (run_ + 1) % sizes_.runs;
    return ids_.data() + run_ * sizes_.tokens * kColumns;
  }

  const Sizes sizes_;
  int64_t value_bytes_ = 0;
  int64_t scale_bytes_ = 0;
  int64_t width_ = 0;
  memory::RowPlace place_;
  std::unique_ptr<memory::HostRowStore> store_;
  memory::Buffer staging_;
  std::vector<int64_t> ids_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> failed_;
  int64_t run_ = 0;
};

}  // namespace engram::bench
