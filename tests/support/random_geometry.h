// Table geometries nobody published, for tests of what must hold of all of them.
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <random>

#include "engine/model/hash_families.h"
#include "memory/table/geometry.h"

namespace engram::tests {

struct RandomGeometry {
  uint32_t most_heads = 1;
  int64_t least_size = 97;  // rows of a column, a little less than the prime that is taken
  uint32_t more_sizes = 1;  // how many sizes there are from there on
};

// Any orders, boundary and mix; ids below 1000, of which 1 is the boundary.
inline memory::TableGeometry random_geometry(std::mt19937& random, const RandomGeometry& limits) {
  engine::PeftHash peft;
  peft.layers = {0};
  peft.heads = 1 + static_cast<int>(random() % limits.most_heads);
  for (int order = 1; order <= memory::kMaxNgramOrder; ++order) {
    if (random() % 4 == 0) peft.orders.push_back(order);
  }
  if (peft.orders.empty()) peft.orders = {16};
  peft.sizes.assign(
      peft.orders.size(), limits.least_size + static_cast<int64_t>(random() % limits.more_sizes));
  peft.ids = 1000;
  peft.row_width = 1;
  memory::TableGeometry g = engine::derive_peft_geometries(peft)[0];
  g.boundary = static_cast<memory::Boundary>(random() % 3);
  g.boundary_id = 1;
  g.fill_id = static_cast<int64_t>(random() % 5);
  if (random() % 3 == 0) {
    g.mix = memory::Mix::kPolynomial;
    g.multipliers.clear();
    g.base = 1 + static_cast<int64_t>(random() % 1000);
  }
  REQUIRE(memory::check_geometry(g).message() == "");
  return g;
}

}  // namespace engram::tests
