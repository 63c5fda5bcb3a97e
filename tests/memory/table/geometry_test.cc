#include "memory/table/geometry.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <iterator>
#include <string>

namespace engram::memory {
namespace {

TEST_CASE("bytes of a row follow its codec", "[geometry]") {
  struct Case {
    RowCodec codec;
    int64_t values;
    int64_t scales;
    std::string name;
  };
  const Case cases[] = {
      {RowCodec::kBf16, 512, 0, "bf16"},        {RowCodec::kF16, 512, 0, "f16"},
      {RowCodec::kF32, 1024, 0, "f32"},         {RowCodec::kF8Ue8m0, 256, 8, "f8_e4m3+ue8m0"},
      {RowCodec::kF8Tensor, 256, 0, "f8_e4m3"}, {RowCodec::kInt8, 256, 8, "int8"},
      {RowCodec::kInt4, 128, 8, "int4"},
  };
  for (const Case& c : cases) {
    TableGeometry g;
    g.moduli = {5, 7, 11, 13};
    g.row_width = 256;
    g.codec = c.codec;
    g.group = 64;
    CAPTURE(c.name);
    CHECK(g.value_bytes() == c.values);
    CHECK(g.scale_bytes() == c.scales);
    CHECK(row_codec_name(c.codec) == c.name);
    CHECK(g.columns() == 4);
    CHECK(g.vector_width() == 1024);
    CHECK(parse_row_codec(c.name) == c.codec);
    CHECK(check_codec(g).ok());
  }
  CHECK(std::size(cases) == std::size(kRowCodecs));
  CHECK_FALSE(parse_row_codec("bf17").has_value());
  CHECK_FALSE(parse_row_codec("").has_value());
}

TEST_CASE("a width that scales do not fit is refused", "[geometry]") {
  TableGeometry g;
  g.codec = RowCodec::kF8Ue8m0;
  g.row_width = 48;
  const Status ue8m0 = check_codec(g);
  CHECK(ue8m0.code() == Code::kInvalidArgument);
  CHECK_THAT(ue8m0.message(), Catch::Contains("row_width is 48, expected a multiple of 32"));
  g.codec = RowCodec::kInt4;
  CHECK_FALSE(check_codec(g).ok());
  g.group = 48;
  CHECK(check_codec(g).ok());
  g.group = 16;
  CHECK(check_codec(g).ok());
  for (const int group : {-32, 0, 8, 24}) {
    g.group = group;
    CAPTURE(group);
    CHECK(check_codec(g).code() == Code::kInvalidArgument);
  }
  g.codec = RowCodec::kBf16;
  CHECK(check_codec(g).ok());
  g.codec = RowCodec::kF8Tensor;
  CHECK(check_codec(g).ok());
  for (const float scale : {0.f, -1.f, HUGE_VALF, std::nanf("")}) {
    g.tensor_scale = scale;
    CAPTURE(scale);
    CHECK(check_codec(g).code() == Code::kInvalidArgument);
  }
  g.codec = static_cast<RowCodec>(7);
  CHECK_THAT(check_codec(g).message(), Catch::Contains("codec is 7"));
}

TableGeometry small_geometry() {
  TableGeometry g;
  g.orders = {2, 4};
  g.heads = 2;
  g.multipliers = {3, 5, 7, 9};
  g.moduli = {5, 7, 11, 13};
  g.offsets = {0, 5, 12, 23};
  g.rows = 40;
  g.row_width = 8;
  return g;
}

TEST_CASE("a geometry that cannot be hashed is refused by field", "[geometry]") {
  CHECK(check_geometry(small_geometry()).ok());
  struct Case {
    std::string says;
    std::function<void(TableGeometry*)> change;
  };
  const Case cases[] = {
      {"layer is -1", [](TableGeometry* g) { g->layer = -1; }},
      {"orders is empty", [](TableGeometry* g) { g->orders.clear(); }},
      {"orders[0] is 0", [](TableGeometry* g) { g->orders[0] = 0; }},
      {"orders[1] is 2", [](TableGeometry* g) { g->orders[1] = 2; }},
      {"orders[1] is 17", [](TableGeometry* g) { g->orders[1] = 17; }},
      {"heads is 0", [](TableGeometry* g) { g->heads = 0; }},
      {"columns is 16386", [](TableGeometry* g) { g->heads = 8193; }},
      {"moduli is 4 numbers, expected 6", [](TableGeometry* g) { g->heads = 3; }},
      {"offsets is 3 numbers", [](TableGeometry* g) { g->offsets.pop_back(); }},
      {"rows is 0", [](TableGeometry* g) { g->rows = 0; }},
      {"moduli[3] is 13, expected 1 to 12", [](TableGeometry* g) { g->rows = 35; }},
      {"moduli[0] is 0", [](TableGeometry* g) { g->moduli[0] = 0; }},
      {"moduli[2] is -11", [](TableGeometry* g) { g->moduli[2] = -11; }},
      {"offsets[1] is 4, expected 5 to 5", [](TableGeometry* g) { g->offsets[1] = 4; }},
      {"multipliers is 3 numbers", [](TableGeometry* g) { g->multipliers.pop_back(); }},
      {"row_width is 0", [](TableGeometry* g) { g->row_width = 0; }},
      {"fill_id is -1", [](TableGeometry* g) { g->fill_id = -1; }},
      {"mix is 9", [](TableGeometry* g) { g->mix = static_cast<Mix>(9); }},
      {"boundary is 9", [](TableGeometry* g) { g->boundary = static_cast<Boundary>(9); }},
      {"boundary_id is -1", [](TableGeometry* g) { g->boundary = Boundary::kEndOfText; }},
      {"multipliers is 4 numbers", [](TableGeometry* g) { g->mix = Mix::kPolynomial; }},
      {"base is 0",
       [](TableGeometry* g) {
         g->mix = Mix::kPolynomial;
         g->multipliers.clear();
       }},
      {"moduli[3] is 1073741824",
       [](TableGeometry* g) {
         g->mix = Mix::kPolynomial;
         g->multipliers.clear();
         g->base = 10;
         g->moduli[3] = 1 << 30;
         g->rows = int64_t{1} << 31;
       }},
  };
  for (const Case& c : cases) {
    CAPTURE(c.says);
    TableGeometry g = small_geometry();
    c.change(&g);
    const Status status = check_geometry(g);
    CHECK(status.code() == Code::kInvalidArgument);
    CAPTURE(status.message());
    CHECK(status.message().find("table geometry: " + c.says) == 0);
  }
}

}  // namespace
}  // namespace engram::memory
