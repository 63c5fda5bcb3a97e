#include "memory/table/geometry.h"

#include <catch2/catch.hpp>
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
      {RowCodec::kBf16, 512, 0, "bf16"},
      {RowCodec::kF16, 512, 0, "f16"},
      {RowCodec::kF32, 1024, 0, "f32"},
      {RowCodec::kF8Ue8m0, 256, 8, "f8_e4m3+ue8m0"},
  };
  for (const Case& c : cases) {
    TableGeometry g;
    g.moduli = {5, 7, 11, 13};
    g.row_width = 256;
    g.codec = c.codec;
    CAPTURE(c.name);
    CHECK(g.value_bytes() == c.values);
    CHECK(g.scale_bytes() == c.scales);
    CHECK(row_codec_name(c.codec) == c.name);
    CHECK(g.columns() == 4);
    CHECK(g.vector_width() == 1024);
  }
}

}  // namespace
}  // namespace engram::memory
