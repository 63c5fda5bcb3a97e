// The published hash constants of every family.
#include "engine/model/hash_families.h"

#include <catch2/catch.hpp>
#include <numeric>

#include "tests/support/hash_configs.h"

namespace engram::engine {
namespace {

using Numbers = std::vector<int64_t>;
using tests::demo_config;
using tests::v41_config;

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
  const auto demo = derive_geometries(demo_config(1000), memory::RowCodec::kBf16, 2);
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

  const auto v41 = derive_geometries(v41_config(), memory::RowCodec::kF8Ue8m0, 2);
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

TEST_CASE("row counts of the test-sized V4.1 and of Engram-27B follow", "[families]") {
  EngramConfig tiny = v41_config();
  tiny.layer_ids = {1, 2};
  tiny.n_heads = 4;
  for (int64_t size = 510; size <= 521; ++size) {
    CAPTURE(size);
    tiny.vocab_size = {size, size, size};
    const auto g = derive_v41_geometries(tiny, 2);
    CHECK(g[0].rows == 6748);
    CHECK(g[1].rows == 7592);
  }
  EngramConfig paper = demo_config(99092);
  paper.layer_ids = {1, 14};
  paper.vocab_size = {2262400, 2262400};
  const auto g = derive_geometries(paper, memory::RowCodec::kBf16, 2);
  CHECK(g[0].moduli[0] == 2262409);
  CHECK(g[0].moduli[1] == 2262413);
  CHECK(g[0].rows == 36199972);
  CHECK(g[1].rows == 36204260);
}

TEST_CASE("constants of Qwen4-Exp are those of its checkpoint", "[families]") {
  const memory::TableGeometry g = derive_ple_geometries(tests::qwen_hash())[0];
  CHECK(g.layer == 1);
  CHECK(g.multipliers == Numbers{23703573157769, 20109073645365, 8052911324071});
  CHECK(g.moduli.size() == 16);
  CHECK(g.moduli.front() == 20000003);
  CHECK(g.moduli.back() == 20000171);
  CHECK(std::accumulate(g.moduli.begin(), g.moduli.end(), int64_t{0}) == 320001446);
  CHECK(g.rows == 320001536);
  CHECK(g.fill_id == 248044);
  CHECK(g.boundary_id == 248044);
  CHECK(check_geometry(g).ok());
}

TEST_CASE("a second n-gram layer of Qwen4-Exp goes on where the first one ended", "[families]") {
  PleHash hash = tests::qwen_hash();
  hash.layers = {1, 5};
  const auto g = derive_ple_geometries(hash);
  CHECK(g[0].multipliers != g[1].multipliers);
  CHECK(g[1].moduli.front() > g[0].moduli.back());
  CHECK(g[1].layer == 5);
  // The index counts, not the layer.
  hash.layers = {7, 9};
  CHECK(derive_ple_geometries(hash)[1].multipliers == g[1].multipliers);
}

TEST_CASE("sizes of LongCat-Flash-Lite are the published ones", "[families]") {
  const memory::TableGeometry g = derive_longcat_geometry(tests::longcat_hash());
  CHECK(g.columns() == 12);
  for (size_t i = 0; i < 12; ++i) CHECK(g.moduli[i] == 10223617 + 2 * static_cast<int64_t>(i));
  CHECK(g.rows == 122683536);
  CHECK(g.offsets[1] == 10223617);
  CHECK(g.multipliers.empty());
  CHECK(g.rows * g.row_width == 31406985216);
  CHECK(check_geometry(g).ok());
}

TEST_CASE("engram-peft divides its sizes and sorts its layers", "[families]") {
  PeftHash hash;
  hash.layers = {14, 1};
  hash.orders = {2, 3};
  hash.sizes = {1131200, 1131200};
  hash.ids = 99092;
  hash.fill_id = 2;
  hash.row_width = 80;
  const auto g = derive_peft_geometries(hash);
  REQUIRE(g.size() == 2);
  CHECK(g[0].layer == 1);
  CHECK(g[0].moduli[0] == 141403);
  CHECK(g[0].moduli[1] == 141413);
  CHECK(g[1].moduli.front() > g[0].moduli.back());
  CHECK(g[0].multipliers == Numbers{76632096046245, 4839876093313, 35959672319349});
  CHECK(check_geometry(g[1]).ok());

  // Orders with a gap: as many multipliers as the highest order looks back.
  hash.orders = {2, 4};
  const auto gap = derive_peft_geometries(hash);
  CHECK(gap[0].moduli == g[0].moduli);
  CHECK(gap[0].multipliers == derive_multipliers(99092, 4, 1, 0));
  CHECK(gap[0].columns() == 16);
}

TEST_CASE("the geometries of every family pass the check", "[families]") {
  for (const auto& g : derive_geometries(demo_config(1000), memory::RowCodec::kBf16, 2)) {
    CHECK(check_geometry(g).ok());
  }
  for (const auto& g : derive_v41_geometries(v41_config(), 2)) {
    CHECK(g.boundary == memory::Boundary::kDeadLatch);
    CHECK(check_geometry(g).ok());
  }
}

}  // namespace
}  // namespace engram::engine
