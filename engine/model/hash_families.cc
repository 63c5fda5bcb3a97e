#include "engine/model/hash_families.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

#include "engine/model/pcg64.h"
#include "engine/model/primes.h"

namespace engram::engine {
namespace {

using memory::Boundary;
using memory::Mix;
using memory::TableGeometry;

constexpr uint64_t kLayerStep = 10007;  // between the seeds of two layers
constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

std::vector<int> orders_up_to(int max_ngram) {
  std::vector<int> orders(static_cast<size_t>(max_ngram - 1));
  std::iota(orders.begin(), orders.end(), 2);
  return orders;
}

// `multiplier` below this times an id below `ids` fits 63 bits after doubling and adding one.
int64_t half_bound(int64_t ids) {
  ENGRAM_CHECK(ids > 0);
  return std::max<int64_t>(1, std::numeric_limits<int64_t>::max() / ids / 2);
}

// moduli[layer][order * heads + head]: primes from sizes[order] on, none twice.
std::vector<std::vector<int64_t>> draw_primes(
    size_t layers, const std::vector<int64_t>& sizes, int heads) {
  std::unordered_set<int64_t> used;
  // All primes from a size up to the last one drawn from it are used; a later draw starts there.
  std::unordered_map<int64_t, int64_t> last_drawn;
  std::vector<std::vector<int64_t>> moduli(layers);
  for (std::vector<int64_t>& layer : moduli) {
    for (const int64_t size : sizes) {
      int64_t& p = last_drawn.try_emplace(size, size - 1).first->second;
      for (int head = 0; head < heads; ++head) {
        do {
          ++p;
        } while (!is_prime(static_cast<uint64_t>(p)) || used.count(p) != 0);
        used.insert(p);
        layer.push_back(p);
      }
    }
  }
  return moduli;
}

void add_columns(const std::vector<int64_t>& moduli, TableGeometry* g) {
  g->moduli = moduli;
  for (const int64_t modulus : moduli) {
    g->offsets.push_back(g->rows);
    g->rows += modulus;
  }
}

uint64_t splitmix64(uint64_t x) {
  x += kGolden;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

std::vector<int64_t> ple_multipliers(const PleHash& hash, size_t index) {
  const uint64_t half = static_cast<uint64_t>(half_bound(hash.vocab_size));
  const uint64_t seed = hash.seed + kLayerStep * index;
  std::vector<int64_t> multipliers;
  for (uint64_t i = 1; i <= static_cast<uint64_t>(hash.max_ngram); ++i) {
    multipliers.push_back(static_cast<int64_t>(2 * (splitmix64(seed + kGolden * i) % half) + 1));
  }
  return multipliers;
}

}  // namespace

std::vector<int64_t> derive_multipliers(
    int64_t canonical_ids, int max_ngram, int layer, uint64_t seed) {
  Pcg64 random(seed + kLayerStep * static_cast<uint64_t>(layer));
  std::vector<int64_t> multipliers;
  for (int k = 0; k < max_ngram; ++k) {
    const uint64_t draw = random.below(static_cast<uint64_t>(half_bound(canonical_ids)));
    multipliers.push_back(static_cast<int64_t>(2 * draw + 1));
  }
  return multipliers;
}

std::vector<std::vector<int64_t>> derive_moduli(const EngramConfig& config) {
  return draw_primes(config.layer_ids.size(), config.vocab_size, config.n_heads);
}

std::vector<TableGeometry> derive_geometries(
    const EngramConfig& config, memory::RowCodec codec, int64_t fill_id) {
  const std::vector<std::vector<int64_t>> moduli = derive_moduli(config);
  std::vector<TableGeometry> geometries;
  for (size_t i = 0; i < config.layer_ids.size(); ++i) {
    TableGeometry& g = geometries.emplace_back();
    g.layer = config.layer_ids[i];
    g.fill_id = fill_id;
    g.orders = orders_up_to(config.max_ngram_size);
    g.multipliers = derive_multipliers(
        config.compressed_vocab_size, config.max_ngram_size, g.layer, config.seed);
    add_columns(moduli[i], &g);
    g.heads = config.n_heads;
    g.row_width = config.head_dim;
    g.codec = codec;
  }
  return geometries;
}

std::vector<TableGeometry> derive_v41_geometries(const EngramConfig& config, int64_t fill_id) {
  std::vector<TableGeometry> geometries =
      derive_geometries(config, memory::RowCodec::kF8Ue8m0, fill_id);
  for (TableGeometry& g : geometries) g.boundary = Boundary::kDeadLatch;
  return geometries;
}

std::vector<TableGeometry> derive_ple_geometries(const PleHash& hash) {
  const std::vector<int64_t> sizes(static_cast<size_t>(hash.max_ngram - 1), hash.rows_per_head);
  const auto moduli = draw_primes(hash.layers.size(), sizes, hash.heads);
  std::vector<TableGeometry> geometries;
  for (size_t i = 0; i < hash.layers.size(); ++i) {
    TableGeometry& g = geometries.emplace_back();
    g.layer = hash.layers[i];
    g.boundary = Boundary::kEndOfText;
    g.fill_id = hash.eos;
    g.boundary_id = hash.eos;
    g.orders = orders_up_to(hash.max_ngram);
    g.multipliers = ple_multipliers(hash, i);
    add_columns(moduli[i], &g);
    g.rows = (g.rows + hash.rows_multiple - 1) / hash.rows_multiple * hash.rows_multiple;
    g.heads = hash.heads;
    g.row_width = hash.row_width;
  }
  return geometries;
}

TableGeometry derive_longcat_geometry(const LongcatHash& hash) {
  TableGeometry g;
  g.mix = Mix::kPolynomial;
  g.boundary = Boundary::kEndOfText;
  g.boundary_id = hash.eos;
  g.base = hash.vocab_size;
  g.orders = orders_up_to(hash.max_ngram);
  g.heads = hash.heads;
  std::vector<int64_t> moduli;
  for (int64_t i = 0; i < (hash.max_ngram - 1) * int64_t{hash.heads}; ++i) {
    moduli.push_back(hash.ratio * hash.vocab_size + 2 * i + 1);
  }
  add_columns(moduli, &g);
  g.row_width = hash.row_width;
  return g;
}

std::vector<TableGeometry> derive_peft_geometries(const PeftHash& hash) {
  std::vector<int> layers = hash.layers;
  std::ranges::sort(layers);
  std::vector<int64_t> sizes;
  for (const int64_t size : hash.sizes) sizes.push_back(size / hash.heads);
  const auto moduli = draw_primes(layers.size(), sizes, hash.heads);
  std::vector<TableGeometry> geometries;
  for (size_t i = 0; i < layers.size(); ++i) {
    TableGeometry& g = geometries.emplace_back();
    g.layer = layers[i];
    g.fill_id = hash.fill_id;
    g.orders = hash.orders;
    g.multipliers = derive_multipliers(hash.ids, hash.orders.back(), g.layer, hash.seed);
    add_columns(moduli[i], &g);
    g.heads = hash.heads;
    g.row_width = hash.row_width;
  }
  return geometries;
}

}  // namespace engram::engine
