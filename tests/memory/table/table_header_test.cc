#include "memory/table/table_header.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <random>

#include "memory/base/checksum.h"
#include "tests/support/bytes.h"

namespace engram::memory {
namespace {

TableGeometry geometry(RowCodec codec, int64_t width) {
  TableGeometry g;
  g.layer = 14;
  g.orders = {2, 3, 4};
  g.heads = 2;
  g.multipliers = {3, 5, 7, 9};
  g.moduli = {11, 13, 17, 19, 23, 29};
  g.offsets = {0, 11, 24, 41, 60, 83};
  g.rows = 120;
  g.row_width = width;
  g.codec = codec;
  return g;
}

TableHeader plan(const TableGeometry& g, RowLayout layout) {
  std::array<uint8_t, 32> sha{};
  for (size_t i = 0; i < sha.size(); ++i) sha[i] = static_cast<uint8_t>(7 * i + 1);
  Result<TableHeader> h = plan_table(g, layout, 8192, sha);
  INFO(h.status().message());
  REQUIRE(h.ok());
  return h.value();
}

std::string encode(const TableHeader& header) {
  Result<std::string> text = encode_table_header(header);
  INFO(text.status().message());
  REQUIRE(text.ok());
  return text.value();
}

void seal(std::string* text) {
  const uint64_t sum = checksum64(text->data(), 4088);
  std::memcpy(text->data() + 4088, &sum, 8);
}

TEST_CASE("headers of every codec and layout survive the file", "[table_header]") {
  for (const RowCodec codec : kRowCodecs) {
    for (const RowLayout layout : {RowLayout::kSplit, RowLayout::kInterleaved}) {
      CAPTURE(row_codec_name(codec), row_layout_name(layout));
      TableGeometry g = geometry(codec, 64);
      g.tensor_scale = 1.99e-4f;
      TableHeader h = plan(g, layout);
      h.checksums_hash = 0x1234567890abcdef;
      const std::string text = encode(h);
      REQUIRE(text.size() == 4096);
      const Result<TableHeader> back = decode_table_header(tests::bytes_of(text), "t");
      INFO(back.status().message());
      REQUIRE(back.ok());
      const TableHeader& b = back.value();
      CHECK(b.geometry.layer == 14);
      CHECK(b.geometry.orders == g.orders);
      CHECK(b.geometry.multipliers == g.multipliers);
      CHECK(b.geometry.moduli == g.moduli);
      CHECK(b.geometry.offsets == g.offsets);
      CHECK(b.geometry.heads == 2);
      CHECK(b.geometry.rows == 120);
      CHECK(b.geometry.row_width == 64);
      CHECK(b.geometry.codec == codec);
      CHECK(b.geometry.tensor_scale == g.tensor_scale);
      CHECK(b.geometry.group == g.group);
      CHECK(b.layout == layout);
      CHECK(b.value_stride == h.value_stride);
      CHECK(b.scale_stride == h.scale_stride);
      CHECK(b.values_at == h.values_at);
      CHECK(b.scales_at == h.scales_at);
      CHECK(b.data_offset == 4096);
      CHECK(b.data_bytes == h.data_bytes);
      CHECK(b.extent_bytes == 8192);
      CHECK(b.token_map_sha256 == h.token_map_sha256);
      CHECK(b.checksums_hash == h.checksums_hash);
      CHECK(b.id == hex64(checksum64(text.data(), 4088)));
      CHECK(encode(b) == text);
    }
  }
}

TEST_CASE("the fields of the hash survive the file", "[table_header]") {
  TableGeometry g = geometry(RowCodec::kBf16, 8);
  g.mix = Mix::kPolynomial;
  g.boundary = Boundary::kEndOfText;
  g.multipliers.clear();
  g.base = 131072;
  g.fill_id = 248044;
  g.boundary_id = 2;
  const std::string text = encode(plan(g, RowLayout::kSplit));
  const Result<TableHeader> b = decode_table_header(tests::bytes_of(text), "t");
  INFO(b.status().message());
  REQUIRE(b.ok());
  CHECK(b.value().geometry.mix == Mix::kPolynomial);
  CHECK(b.value().geometry.boundary == Boundary::kEndOfText);
  CHECK(b.value().geometry.base == 131072);
  CHECK(b.value().geometry.fill_id == 248044);
  CHECK(b.value().geometry.boundary_id == 2);
  CHECK(b.value().geometry.multipliers.empty());
}

TEST_CASE("places of rows in published tables", "[table_header]") {
  struct Case {
    RowCodec codec;
    int64_t width;
    int64_t rows;
    RowLayout layout;
    int64_t value_stride;
    int64_t scale_stride;
    int64_t scales_at;
    int64_t data_bytes;
  };
  // Sizes by hand: 384006168 * 256 = 98305579008 = 4096 * 24000385.5, and so on.
  const Case cases[] = {
      {RowCodec::kF8Ue8m0, 256, 384006168, RowLayout::kSplit, 256, 8, 98305581056, 101377634304},
      {RowCodec::kF8Ue8m0, 256, 384006168, RowLayout::kInterleaved, 264, 264, 256, 101377630208},
      {RowCodec::kF8Tensor, 160, 320001536, RowLayout::kSplit, 160, 0, 0, 51200245760},
      {RowCodec::kBf16, 160, 320001536, RowLayout::kInterleaved, 320, 0, 0, 102400491520},
      {RowCodec::kBf16, 250, 4096, RowLayout::kInterleaved, 512, 0, 0, 2097152},
      {RowCodec::kInt4, 32, 4096, RowLayout::kInterleaved, 18, 18, 16, 73728},
  };
  for (const Case& c : cases) {
    CAPTURE(row_codec_name(c.codec), c.width, row_layout_name(c.layout));
    TableGeometry g = geometry(c.codec, c.width);
    g.rows = c.rows;
    const TableHeader h = plan_table(g, c.layout, kDefaultExtentBytes, {}).value();
    CHECK(h.value_stride == c.value_stride);
    CHECK(h.scale_stride == c.scale_stride);
    CHECK(h.scales_at == c.scales_at);
    CHECK(h.data_bytes == c.data_bytes);
    CHECK(h.file_bytes() % 4096 == 0);
    CHECK(h.extent_size(h.extents() - 1) == h.data_bytes - (h.extents() - 1) * kDefaultExtentBytes);
    const RowPlace place = row_place(h, nullptr);
    CHECK(place.value_stride == c.value_stride);
  }
}

TEST_CASE("what a header has no room or no sense for is refused by field", "[table_header]") {
  struct Case {
    std::string says;
    std::function<void(TableGeometry*)> change;
  };
  const Case cases[] = {
      {"columns: expected 1 .. 128, found 129",
       [](TableGeometry* g) {
         g->orders = {2};
         g->heads = 129;
         g->multipliers = {1, 1};
         g->moduli.assign(129, 1);
         g->offsets.assign(129, 0);
         for (size_t i = 0; i < 129; ++i) g->offsets[i] = static_cast<int64_t>(i);
         g->rows = 129;
       }},
      {"rows: expected 1 .. 1099511627776, found 0", [](TableGeometry* g) { g->rows = 0; }},
      {"rows", [](TableGeometry* g) { g->rows = INT64_MAX; }},
      {"row width", [](TableGeometry* g) { g->row_width = INT64_MAX; }},
      {"tensor scale", [](TableGeometry* g) { g->tensor_scale = -1; }},
      {"offsets[1]", [](TableGeometry* g) { g->offsets[1] = 12; }},
      {"moduli[0]", [](TableGeometry* g) { g->moduli[0] = INT64_MAX; }},
      {"codec", [](TableGeometry* g) { g->codec = static_cast<RowCodec>(7); }},
      {"expected a multiple of 32",
       [](TableGeometry* g) {
         g->codec = RowCodec::kF8Ue8m0;
         g->row_width = 40;
       }},
  };
  for (const Case& c : cases) {
    CAPTURE(c.says);
    TableGeometry g = geometry(RowCodec::kBf16, 64);
    c.change(&g);
    const Status status = plan_table(g, RowLayout::kSplit, 8192, {}).status();
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK_THAT(status.message(), Catch::Contains(c.says));
  }
  for (const int64_t extent : {int64_t{0}, int64_t{-4096}, int64_t{4097}, int64_t{1} << 40}) {
    CAPTURE(extent);
    const TableGeometry g = geometry(RowCodec::kBf16, 64);
    CHECK(!plan_table(g, RowLayout::kSplit, extent, {}).ok());
  }
}

TEST_CASE("a foreign file, another version and a wrong checksum are told apart", "[table_header]") {
  const std::string good = encode(plan(geometry(RowCodec::kBf16, 64), RowLayout::kSplit));
  std::string text = good;
  text[0] = 'X';
  CHECK_THAT(
      decode_table_header(tests::bytes_of(text), "f").status().message(),
      Catch::StartsWith("f: is not a table file"));
  CHECK(!decode_table_header(tests::bytes_of(good.substr(0, 4095)), "f").ok());
  text = good;
  text[8] = 2;
  CHECK_THAT(
      decode_table_header(tests::bytes_of(text), "f").status().message(),
      Catch::Contains("f: format version: expected 1, found 2"));
  text = good;
  text[44] = static_cast<char>(text[44] ^ 1);
  CHECK(decode_table_header(tests::bytes_of(text), "f").status().code() == Code::kDataLoss);
  text = good;
  text[4000] = 1;  // reserved
  seal(&text);
  CHECK_THAT(
      decode_table_header(tests::bytes_of(text), "f").status().message(),
      Catch::Contains("contradicts itself"));
}

// With the checksum made right again a change reaches the checks of the fields. What they let pass
// must be a header that means exactly its bytes and whose rows lie in the data section.
TEST_CASE("10,000 corrupt headers are errors or whole headers", "[table_header]") {
  const uint64_t seed = 20261122;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  int accepted = 0;
  int refused = 0;
  for (int i = 0; i < 10000; ++i) {
    const RowCodec codec = kRowCodecs[random() % std::size(kRowCodecs)];
    const RowLayout layout = random() % 2 == 0 ? RowLayout::kSplit : RowLayout::kInterleaved;
    const std::string good = encode(plan(geometry(codec, 64), layout));
    std::string text = good;
    for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      // Mostly where the fields are; a bit, a byte, or eight bytes.
      const size_t at = random() % 8 == 0 ? random() % 4088 : random() % 600;
      const uint64_t kind = random() % 3;
      const uint64_t word = random() % 2 == 0 ? random() : ~uint64_t{0} >> (random() % 64);
      if (kind == 0) text[at] = static_cast<char>(text[at] ^ (1 << (random() % 8)));
      if (kind == 1) text[at] = static_cast<char>(random());
      if (kind == 2) std::memcpy(text.data() + at / 8 * 8, &word, 8);
    }
    if (text != good) {
      CHECK(!decode_table_header(tests::bytes_of(text), "f").ok());
    }
    seal(&text);
    const Result<TableHeader> h = decode_table_header(tests::bytes_of(text), "f");
    if (!h.ok()) {
      ++refused;
      CHECK_THAT(h.status().message(), Catch::StartsWith("f: "));
      continue;
    }
    ++accepted;
    const TableHeader& header = h.value();
    REQUIRE(encode(header) == text);
    const TableGeometry& g = header.geometry;
    REQUIRE(
        header.values_at + (g.rows - 1) * header.value_stride + g.value_bytes() <=
        header.data_bytes);
    REQUIRE(header.extents() * header.extent_bytes >= header.data_bytes);
    REQUIRE(check_geometry(g).ok());
  }
  CAPTURE(accepted, refused);
  CHECK(accepted > 100);  // token map, ids, checksums: values that no check can know
  CHECK(refused > 5000);
}

TEST_CASE("extent checksums survive the file", "[table_header]") {
  std::vector<uint64_t> sums;
  for (uint64_t i = 0; i < 513; ++i) sums.push_back(i * 0x9e3779b97f4a7c15);
  const std::string text = encode_checksums(sums);
  CHECK(text.size() == 8192);
  CHECK(decode_checksums(text, 513) == sums);
}

TEST_CASE("the checksum is XXH3-64", "[table_header]") {
  // Published values of XXH3_64bits, seed 0: the empty input, and "abc".
  CHECK(hex64(checksum64("", 0)) == "2d06800538d394c2");
  CHECK(hex64(checksum64("abc", 3)) == "78af5f94892f3950");
}

}  // namespace
}  // namespace engram::memory
