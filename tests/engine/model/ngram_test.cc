// The published row ids of every family, and that hashing in parts equals hashing at once.
#include "engine/model/ngram.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "tests/support/hash_configs.h"
#include "tests/support/random_geometry.h"

namespace engram::engine {
namespace {

using Numbers = std::vector<int64_t>;

using memory::Boundary;
using memory::Mix;
using memory::TableGeometry;
using tests::demo_config;
using tests::v41_config;

// The rows of one position, hashed with everything before it.
Numbers rows_at(
    const memory::TableGeometry& g, const std::vector<int32_t>& ids, int64_t t, bool offsets) {
  Numbers rows(static_cast<size_t>(g.columns()));
  hash_rows(g, ids, t, t + 1, rows.data());
  for (size_t c = 0; c < rows.size() && !offsets; ++c) rows[c] -= g.offsets[c];
  return rows;
}

TEST_CASE("demo hash ids are the published ones", "[ngram]") {
  const auto a = derive_geometries(demo_config(1000), memory::RowCodec::kBf16, 2);
  const std::vector<int32_t> ids_a = {5, 7, 11, 13, 17};
  CHECK(
      rows_at(a[0], ids_a, 0, false) == Numbers{
                                            203567, 550808, 532566, 360806, 600351, 104236, 543158,
                                            322868, 435964, 560467, 530914, 178646, 160968, 73896,
                                            120701, 153998});
  CHECK(
      rows_at(a[0], ids_a, 1, false) == Numbers{
                                            587006, 535012, 38180, 527566, 99965, 382660, 57443,
                                            273001, 468516, 179333, 521566, 278287, 441462, 331323,
                                            474325, 228843});
  CHECK(
      rows_at(a[0], ids_a, 4, false) == Numbers{
                                            506819, 613702, 188913, 567948, 256824, 229155, 10360,
                                            244836, 591010, 492573, 250842, 358050, 427910, 303549,
                                            195146, 336127});
  CHECK(
      rows_at(a[1], ids_a, 4, false) == Numbers{
                                            478180, 413952, 471676, 248830, 111586, 416662, 43223,
                                            223550, 204619, 107353, 231739, 223808, 590573, 90459,
                                            264722, 281491});
  const auto b = derive_geometries(demo_config(99092), memory::RowCodec::kBf16, 2);
  const std::vector<int32_t> ids_b = {0, 1, 2, 99091, 12345, 54321};
  CHECK(
      rows_at(b[0], ids_b, 0, false) == Numbers{
                                            420644, 208327, 431909, 218613, 447759, 273518, 541093,
                                            132781, 96567, 590438, 451716, 277891, 36268, 204243,
                                            478025, 79139});
  CHECK(
      rows_at(b[0], ids_b, 3, false) == Numbers{
                                            2657, 34797, 375202, 254346, 570430, 93274, 428346,
                                            97030, 297052, 451611, 569299, 240584, 589634, 135786,
                                            113111, 252449});
  CHECK(
      rows_at(b[0], ids_b, 5, false) == Numbers{
                                            200629, 471394, 515072, 369458, 122290, 447398, 280637,
                                            600838, 500492, 283519, 107617, 54560, 403332, 247533,
                                            616551, 186483});
  CHECK(
      rows_at(b[1], ids_b, 5, false) == Numbers{
                                            110232, 455458, 612132, 94839, 170561, 436932, 13688,
                                            109708, 352068, 40145, 11910, 70062, 116848, 30955,
                                            429494, 428251});
}

TEST_CASE("row ids of V4.1 are the published ones", "[ngram]") {
  const auto g = derive_geometries(v41_config(), memory::RowCodec::kF8Ue8m0, 2);
  const std::vector<int32_t> ids = {0, 1, 2, 99091, 12345, 54321, 7};
  CHECK(rows_at(g[0], ids, 0, true) == Numbers{5702652,   24393184,  39183301,  61503783,
                                               78984481,  90144770,  103724983, 121476532,
                                               131476717, 152385926, 164143652, 191599181,
                                               198145581, 217419202, 238329687, 247482304,
                                               257520185, 283540304, 288689443, 315264704,
                                               322314652, 348890037, 367865216, 380066193});
  CHECK(rows_at(g[0], ids, 3, true) == Numbers{2008568,   17698461,  32185018,  60619676,
                                               67746795,  83049331,  108124504, 125647891,
                                               130939961, 155576397, 160105771, 184968909,
                                               195873435, 214139346, 233554809, 240610152,
                                               262194541, 285968187, 298266289, 307618704,
                                               325707012, 338618719, 363316092, 374920019});
  CHECK(rows_at(g[1], ids, 5, true) == Numbers{7542173,   25357012,  44783456,  55097175,
                                               69063164,  90483838,  107661888, 116629818,
                                               129041155, 145878891, 174972316, 177701502,
                                               204485244, 221162613, 239991119, 253554654,
                                               260817072, 275402521, 301379829, 313099035,
                                               327076297, 348508745, 353626361, 379800511});
}

TEST_CASE("a dead token ends the look-back in V4.1", "[ngram]") {
  const auto g = derive_v41_geometries(v41_config(), 2);
  std::vector<int32_t> ids = {0, 1, 2, 99091, 12345, 54321, 7};
  const Numbers all_live_5 = rows_at(g[0], ids, 5, true);
  const Numbers all_live_6 = rows_at(g[0], ids, 6, true);
  const Numbers start = rows_at(g[0], {2}, 0, true);
  ids[4] = -1;
  CHECK(rows_at(g[0], ids, 5, true) == Numbers{12092422,  29335974,  46229602,  58061002,
                                               75418037,  90699761,  99121123,  120289984,
                                               134575750, 145186966, 164976101, 188173364,
                                               206612861, 214856719, 236002798, 249067259,
                                               262316833, 285414977, 300264558, 317445523,
                                               334883330, 338014976, 353032850, 370877491});
  const Numbers after = rows_at(g[0], ids, 6, true);
  CHECK(after == Numbers{4410056,   30038933,  44054650,  60476284,  70096550,  94900248,
                         107351497, 113769296, 135744924, 154149867, 168997195, 182879848,
                         194728119, 209096825, 231205436, 254195366, 269964945, 283234493,
                         299120900, 315175348, 320585975, 336763809, 366274007, 373692804});
  CHECK(std::equal(after.begin(), after.begin() + 8, all_live_6.begin()));
  CHECK(all_live_5 != rows_at(g[0], ids, 5, true));
  // A dead token hashes as four pads.
  CHECK(rows_at(g[0], ids, 4, true) == start);
}

TEST_CASE("row ids of Qwen4-Exp are the published ones", "[ngram]") {
  const TableGeometry g = derive_ple_geometries(tests::qwen_hash())[0];
  const std::vector<int32_t> ids = {9707, 11, 1879, 248044, 0, 248319};
  CHECK(
      rows_at(g, ids, 0, true) == Numbers{
                                      16410909, 39682429, 55103279, 60931720, 87006904, 116506179,
                                      131512017, 152932897, 169641436, 182022480, 209277433,
                                      237891023, 256841529, 277007269, 290665954, 300984276});
  CHECK(
      rows_at(g, ids, 3, true) == Numbers{
                                      18827606, 27700912, 56521518, 65780303, 81132822, 100518937,
                                      120474864, 142052741, 163793416, 184135950, 219854666,
                                      227756662, 248975183, 271245822, 285569892, 318943450});
  CHECK(
      rows_at(g, ids, 4, true) == Numbers{
                                      768795, 32189829, 51641306, 71063218, 85886852, 104959504,
                                      134316676, 154856127, 173280301, 194832882, 202840854,
                                      222492280, 256138797, 271010889, 296240796, 304432235});
  CHECK(
      rows_at(g, ids, 5, true) == Numbers{
                                      17035305, 37104214, 41553187, 64726037, 94893895, 112558302,
                                      129937787, 148091832, 170263291, 191853921, 208567818,
                                      236579041, 257464514, 279310953, 293473367, 305886554});
}

TEST_CASE("row ids of LongCat-Flash-Lite follow its formula", "[ngram]") {
  const TableGeometry g = derive_longcat_geometry(tests::longcat_hash());
  std::vector<int32_t> ids = {11, 523, 9001, 44, 130000, 7, 88, 4};
  CHECK(rows_at(g, ids, 0, false) == Numbers(12, 11));
  CHECK(rows_at(g, ids, 1, false) == Numbers(12, 1442315));
  CHECK(
      rows_at(g, ids, 2, false) == Numbers{
                                       7217955, 7217943, 7217931, 7217919, 2070806, 2033824,
                                       1996842, 1959860, 1922878, 1885896, 1848914, 1811932});
  CHECK(
      rows_at(g, ids, 7, false) == Numbers{
                                       1310723, 1310721, 1310719, 1310717, 10117753, 10094227,
                                       10070701, 10047175, 9045423, 867998, 4872324, 611117});
  ids[2] = 2;  // end of text
  CHECK(rows_at(g, ids, 3, false) == Numbers(12, 44));
  CHECK(rows_at(g, ids, 4, false) == Numbers(12, 5897168));
}

// The definitions, term by term.
int64_t slow_row(const TableGeometry& g, std::span<const int32_t> ids, int64_t t, size_t c) {
  const int order = g.orders[c / static_cast<size_t>(g.heads)];
  uint64_t sum = 0;
  uint64_t power = 1;
  bool blocked = false;
  for (int64_t back = 0; back < order; ++back) {
    const int64_t at = t - back;
    blocked = blocked || at < 0;
    if (!blocked && g.boundary == Boundary::kDeadLatch) blocked = ids[static_cast<size_t>(at)] < 0;
    if (!blocked && g.boundary == Boundary::kEndOfText && back > 0) {
      blocked = ids[static_cast<size_t>(at)] == g.boundary_id;
    }
    const uint64_t id =
        static_cast<uint64_t>(blocked ? g.fill_id : int64_t{ids[static_cast<size_t>(at)]});
    if (g.mix == Mix::kPolynomial) {
      sum += id * power;
      power = power * static_cast<uint64_t>(g.base) % static_cast<uint64_t>(g.moduli[c]);
    } else {
      sum ^= id * static_cast<uint64_t>(g.multipliers[static_cast<size_t>(back)]);
    }
  }
  const int64_t rest = static_cast<int64_t>(sum) % g.moduli[c];
  return g.offsets[c] + (rest < 0 ? rest + g.moduli[c] : rest);
}

void check_splits(const TableGeometry& g, const std::vector<int32_t>& ids) {
  const int64_t tokens = static_cast<int64_t>(ids.size());
  Numbers whole(static_cast<size_t>(tokens * g.columns()));
  hash_rows(g, ids, 0, tokens, whole.data());
  for (const int64_t chunk : {1, 2, 3, 7, 63, 64, 65, 200}) {
    CAPTURE(chunk);
    Numbers parts(whole.size(), -1);
    for (int64_t t = 0; t < tokens; t += chunk) {
      const int64_t end = std::min(tokens, t + chunk);
      hash_rows(
          g, std::span(ids).first(static_cast<size_t>(end)), t, end,
          parts.data() + t * g.columns());
    }
    CHECK(parts == whole);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (size_t c = 0; c < g.moduli.size(); ++c) {
      REQUIRE(whole[static_cast<size_t>(t) * g.moduli.size() + c] == slow_row(g, ids, t, c));
    }
  }
}

TEST_CASE("rows do not depend on how the positions are split", "[ngram]") {
  const uint32_t seed = Catch::rngSeed() == 0 ? 20260611u : Catch::rngSeed();
  CAPTURE(seed);
  std::mt19937 random(seed);
  PeftHash peft;
  peft.layers = {3};
  peft.orders = {2, 5};
  peft.sizes = {1000, 2000};
  peft.heads = 3;
  peft.ids = 50;  // ids beyond it wrap around 2^63
  peft.fill_id = 7;
  struct Case {
    std::string name;
    TableGeometry geometry;
    int32_t ids;
    int32_t rare;  // comes up every few positions
  };
  const Case cases[] = {
      {"paper", derive_geometries(demo_config(99092), memory::RowCodec::kBf16, 2)[1], 99092, 2},
      {"v4.1", derive_v41_geometries(v41_config(), 2)[1], 99092, -1},
      {"qwen", derive_ple_geometries(tests::qwen_hash())[0], 248320, 248044},
      {"longcat", derive_longcat_geometry(tests::longcat_hash()), 131072, 2},
      {"peft", derive_peft_geometries(peft)[0], 1 << 30, -100},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    std::vector<int32_t> ids(333);
    for (int32_t& id : ids) {
      id = random() % 6 == 0 ? c.rare
                             : static_cast<int32_t>(random() % static_cast<uint32_t>(c.ids));
    }
    check_splits(c.geometry, ids);
  }
}

TEST_CASE("all boundaries agree with the definition for the first positions", "[ngram]") {
  const uint32_t seed = Catch::rngSeed() == 0 ? 20261122u : Catch::rngSeed();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 400; ++round) {
    const TableGeometry g = tests::random_geometry(random, {});
    std::vector<int32_t> ids(1 + random() % 70);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 12) - 1;
    CAPTURE(round);
    check_splits(g, ids);
  }
}

TEST_CASE("an empty range hashes nothing", "[ngram]") {
  const auto g = derive_geometries(demo_config(1000), memory::RowCodec::kBf16, 2)[0];
  hash_rows(g, {}, 0, 0, nullptr);
}

TEST_CASE("ids past the token map count as the pad", "[ngram]") {
  const TokenMap map = {{4, 5, 6}, 5};
  CHECK(map.of(0) == 4);
  CHECK(map.of(2) == 6);
  CHECK(map.of(3) == 5);
  CHECK(map.of(1 << 20) == 5);
  const TokenMap adapter = {{4, 5, 6}, 5, true};
  CHECK(adapter.of(2) == 6);
  CHECK(adapter.of(3) == 3);
  const TokenMap identity = {{}, 0, true};
  CHECK(identity.of(248319) == 248319);
}

}  // namespace
}  // namespace engram::engine
