#include "memory/table/table_match.h"

#include <catch2/catch.hpp>

#include "tests/support/table_files.h"

namespace engram::memory {
namespace {

constexpr std::array<uint8_t, 32> kTokenMap{1, 2, 3};

TableHeader header() {
  TableHeader h;
  h.geometry = tests::small_geometry(RowCodec::kBf16, 64, 1000, 4);
  h.token_map_sha256 = kTokenMap;
  return h;
}

TEST_CASE("each field that the hash depends on tells two tables apart", "[table_match]") {
  const TableGeometry wanted = header().geometry;
  CHECK(check_table_header("t", header(), wanted, kTokenMap).ok());
  const auto differs = [&](const char* field, auto change) {
    TableHeader found = header();
    change(found.geometry);
    CAPTURE(field);
    const Status status = check_table_header("t.bin", found, wanted, kTokenMap);
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK_THAT(
        status.message(),
        Catch::Contains("t.bin") && Catch::Contains(field) && Catch::Contains("the model's is"));
  };
  differs("layer", [](TableGeometry& g) { g.layer += 1; });
  differs("mix", [](TableGeometry& g) {
    g.mix = g.mix == Mix::kXorMultiply ? Mix::kPolynomial : Mix::kXorMultiply;
  });
  differs("boundary", [](TableGeometry& g) {
    g.boundary = g.boundary == Boundary::kNone ? Boundary::kDeadLatch : Boundary::kNone;
  });
  differs("fill_id", [](TableGeometry& g) { g.fill_id += 1; });
  differs("boundary_id", [](TableGeometry& g) { g.boundary_id += 1; });
  differs("base", [](TableGeometry& g) { g.base += 1; });
  differs("orders", [](TableGeometry& g) { g.orders.push_back(9); });
  differs("heads", [](TableGeometry& g) { g.heads += 1; });
  differs("row_width", [](TableGeometry& g) { g.row_width += 1; });
  differs("rows", [](TableGeometry& g) { g.rows += 1; });
  differs("multipliers[1]", [](TableGeometry& g) { g.multipliers[1] = 9; });
  differs("moduli", [](TableGeometry& g) { g.moduli.push_back(1); });
  differs("moduli[3]", [](TableGeometry& g) { g.moduli.back() += 1; });
  differs("offsets[3]", [](TableGeometry& g) { g.offsets.back() += 1; });
}

TEST_CASE("codec and scales are the table's own matter", "[table_match]") {
  TableHeader found = header();
  found.geometry.codec = RowCodec::kInt4;
  found.geometry.group = 16;
  found.geometry.tensor_scale = 3.f;
  CHECK(check_table_header("t", found, header().geometry, kTokenMap).ok());
}

TEST_CASE("a table hashed with another token map is refused", "[table_match]") {
  const Status status = check_table_header("t", header(), header().geometry, {});
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("010203") && Catch::Contains("none"));
}

}  // namespace
}  // namespace engram::memory
