// The published numbers of the Engram hash, and that hashing in parts equals hashing at once.
#include "engine/model/ngram.h"

#include <catch2/catch.hpp>
#include <random>

namespace engram::engine {
namespace {

using Numbers = std::vector<int64_t>;

EngramConfig demo_config(int64_t canonical_ids) {
  EngramConfig c;
  c.layer_ids = {1, 15};
  c.max_ngram_size = 3;
  c.vocab_size = {646400, 646400};
  c.n_heads = 8;
  c.head_dim = 64;
  c.compressed_vocab_size = canonical_ids;
  return c;
}

EngramConfig v41_config() {
  EngramConfig c;
  c.layer_ids = {1, 14};
  c.max_ngram_size = 4;
  c.vocab_size = {16000000, 16000000, 16000000};
  c.n_heads = 8;
  c.head_dim = 256;
  c.compressed_vocab_size = 99092;
  return c;
}

// The rows of one position, hashed with everything before it.
Numbers rows_at(
    const memory::TableGeometry& g, const std::vector<int32_t>& ids, int64_t t, bool offsets) {
  Numbers rows(static_cast<size_t>(g.columns()));
  hash_rows(g, ids, 2, t, t + 1, rows.data());
  for (size_t c = 0; c < rows.size() && !offsets; ++c) rows[c] -= g.offsets[c];
  return rows;
}

TEST_CASE("PCG64 gives NumPy's words and draws", "[ngram]") {
  struct Case {
    uint64_t seed;
    std::vector<uint64_t> words;
    std::vector<uint64_t> draws;
  };
  const std::vector<Case> cases = {
      {0,
       {0xdb2cd7e7b0f478be, 0xabf4641a2c71ba49, 0x20c6ed6d9d7b8d41, 0x2c4099de223c39d4},
       {11749869230777074271u, 4976686463289251617u, 755828109848996024u}},
      {10007,
       {0x77d32a348ad70d07, 0x993ed609b84a4fa5, 0xd5f972dec8698e49, 0x7d79ebaebcf148de},
       {15187255322829266483u, 959186003677246517u, 7126631698937927467u}},
      {140098,
       {0xdb5869feeeccf2be, 0xad465727d9cf3645, 0x5155d26378b6bab4, 0x9f9e49df66ff1c85},
       {13420388419549774097u, 10208617735032736636u, 6128116274024149523u}},
      {150105,
       {0xd81b63c1c152e155, 0x4f78d1f67f67762a, 0x111ccf563d129a55, 0x8b8977b73877171a},
       {5731302735937527132u, 11102341020473763372u, 10687872321234204531u}},
      // Two limbs of entropy.
      {(uint64_t{1} << 40) + 5,
       {0xdae41755e08a170b, 0x8415abe87ecdcb2c, 0x2525c5b44b9118d0, 0x42c2793f3392bed3},
       {87427594128977387u, 6872972437549564694u, 10832470946844950135u}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.seed);
    CHECK(Pcg64::seed_words(c.seed) == c.words);
    Pcg64 random(c.seed);
    for (const uint64_t draw : c.draws) CHECK(random.next() == draw);
  }
}

TEST_CASE("bounded draws equal NumPy's, redraws included", "[ngram]") {
  // Just above half of 2^64 nearly half of all draws are redrawn.
  Pcg64 random(7);
  for (const uint64_t expected :
       {uint64_t{5765488047046174020}, uint64_t{8275336682942969161}, uint64_t{7154437704795913392},
        uint64_t{2077169698657866656}, uint64_t{2768545318656780450}}) {
    CHECK(random.below((uint64_t{1} << 63) - 1) == expected);
  }
  Pcg64 narrow(7);
  for (const uint64_t expected :
       {uint64_t{2882744023523087012}, uint64_t{4137668341471484583}, uint64_t{3577218852397956698},
        uint64_t{4028554210483014095}, uint64_t{3787247614991040953}}) {
    CHECK(narrow.below((uint64_t{1} << 62) + 3) == expected);
  }
}

TEST_CASE("multipliers are the published ones", "[ngram]") {
  CHECK(
      derive_multipliers(1000, 3, 1, 0) ==
      Numbers{7593627661414631, 479593001838623, 3563315849468963});
  CHECK(
      derive_multipliers(1000, 3, 15, 0) ==
      Numbers{2865651367968763, 5551170510236881, 5343936160617101});
  CHECK(
      derive_multipliers(99092, 3, 1, 0) == Numbers{76632096046245, 4839876093313, 35959672319349});
  CHECK(
      derive_multipliers(99092, 3, 15, 0) ==
      Numbers{28919099099511, 56020370062535, 53929037264533});
  CHECK(
      derive_multipliers(99092, 4, 1, 0) ==
      Numbers{76632096046245, 4839876093313, 35959672319349, 73987337458391});
  CHECK(
      derive_multipliers(99092, 4, 14, 0) ==
      Numbers{67716810739261, 51510806800915, 30921347202721, 82619226485591});
}

TEST_CASE("moduli and row counts are the published ones", "[ngram]") {
  const auto demo = derive_geometries(demo_config(1000), memory::RowCodec::kBf16);
  CHECK(
      demo[0].moduli == Numbers{
                            646403, 646411, 646421, 646423, 646433, 646453, 646519, 646523, 646537,
                            646543, 646549, 646571, 646573, 646577, 646609, 646619});
  CHECK(
      demo[1].moduli == Numbers{
                            646631, 646637, 646643, 646669, 646687, 646721, 646757, 646771, 646781,
                            646823, 646831, 646837, 646843, 646859, 646873, 646879});
  CHECK(demo[0].rows == 10344164);
  CHECK(demo[1].rows == 10348242);
  CHECK(demo[1].layer == 15);
  CHECK(demo[0].offsets[0] == 0);
  CHECK(demo[0].offsets[2] == 646403 + 646411);

  const auto v41 = derive_geometries(v41_config(), memory::RowCodec::kF8Ue8m0);
  CHECK(v41[0].rows == 384006168);
  CHECK(v41[1].rows == 384016682);
  CHECK(v41[0].moduli.front() == 16000057);
  CHECK(v41[1].moduli.back() == 16000889);
  CHECK(v41[0].value_bytes() + v41[0].scale_bytes() == 264);
}

TEST_CASE("small and unequal table sizes share no prime", "[ngram]") {
  EngramConfig c = demo_config(1000);
  c.n_heads = 4;
  c.vocab_size = {1, 3};  // the second order starts inside the primes of the first
  CHECK(
      derive_moduli(c) ==
      std::vector<Numbers>{{2, 3, 5, 7, 11, 13, 17, 19}, {23, 29, 31, 37, 41, 43, 47, 53}});
  c.vocab_size = {20, 10};
  CHECK(
      derive_moduli(c) ==
      std::vector<Numbers>{{23, 29, 31, 37, 11, 13, 17, 19}, {41, 43, 47, 53, 59, 61, 67, 71}});
  c.layer_ids = {0};
  c.n_heads = 1;
  c.vocab_size = {(int64_t{1} << 40) - 100, int64_t{1} << 40};
  CHECK(derive_moduli(c) == std::vector<Numbers>{{1099511627689, 1099511627791}});
}

TEST_CASE("demo hash ids are the published ones", "[ngram]") {
  const auto a = derive_geometries(demo_config(1000), memory::RowCodec::kBf16);
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
  const auto b = derive_geometries(demo_config(99092), memory::RowCodec::kBf16);
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
  const auto g = derive_geometries(v41_config(), memory::RowCodec::kF8Ue8m0);
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

TEST_CASE("rows do not depend on how the positions are split", "[ngram]") {
  const uint32_t seed = Catch::rngSeed() == 0 ? 20260611u : Catch::rngSeed();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto g = derive_geometries(v41_config(), memory::RowCodec::kBf16)[1];
  const int64_t tokens = 333;
  std::vector<int32_t> ids(tokens);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 99092);
  Numbers whole(static_cast<size_t>(tokens * g.columns()));
  hash_rows(g, ids, 2, 0, tokens, whole.data());
  for (const int64_t chunk : {1, 2, 3, 7, 63, 64, 65, 200}) {
    CAPTURE(chunk);
    Numbers parts(whole.size(), -1);
    for (int64_t t = 0; t < tokens; t += chunk) {
      const int64_t end = std::min(tokens, t + chunk);
      hash_rows(
          g, std::span(ids).first(static_cast<size_t>(end)), 2, t, end,
          parts.data() + t * g.columns());
    }
    CHECK(parts == whole);
  }
  // The definition, term by term.
  for (int64_t t = 0; t < tokens; ++t) {
    uint64_t mix = 0;
    for (int64_t back = 0; back < 4; ++back) {
      const int64_t id = t < back ? 2 : ids[static_cast<size_t>(t - back)];
      mix ^= static_cast<uint64_t>(id * g.multipliers[static_cast<size_t>(back)]);
      for (int64_t c = (back - 1) * 8; back > 0 && c < back * 8; ++c) {
        const size_t column = static_cast<size_t>(c);
        const int64_t z = static_cast<int64_t>(mix % static_cast<uint64_t>(g.moduli[column]));
        REQUIRE(whole[static_cast<size_t>(t * g.columns() + c)] == z + g.offsets[column]);
      }
    }
  }
}

TEST_CASE("an empty range hashes nothing", "[ngram]") {
  const auto g = derive_geometries(demo_config(1000), memory::RowCodec::kBf16)[0];
  hash_rows(g, {}, 2, 0, 0, nullptr);
}

TEST_CASE("ids past the token map count as the pad", "[ngram]") {
  const TokenMap map = {{4, 5, 6}, 5};
  CHECK(map.of(0) == 4);
  CHECK(map.of(2) == 6);
  CHECK(map.of(3) == 5);
  CHECK(map.of(1 << 20) == 5);
}

}  // namespace
}  // namespace engram::engine
