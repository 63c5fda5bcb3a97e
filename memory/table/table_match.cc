#include "memory/table/table_match.h"

#include <algorithm>
#include <vector>

#include "memory/table/table_set.h"

namespace engram::memory {
namespace {

// Compares fields of one table file until the first that differs.
class Match {
 public:
  explicit Match(std::string where) : where_(std::move(where)) {}

  void text(const char* field, const std::string& found, const std::string& expected) {
    if (!status_.ok() || found == expected) return;
    status_ = invalid_argument(
        where_ + ": " + field + " is " + found + ", the model's is " + expected +
        "; the table belongs to another model");
  }
  void number(const char* field, int64_t found, int64_t expected) {
    text(field, std::to_string(found), std::to_string(expected));
  }
  template <typename T>
  void list(const char* field, const std::vector<T>& found, const std::vector<T>& expected) {
    number(
        (std::string("the number of ") + field).c_str(), std::ssize(found), std::ssize(expected));
    if (!status_.ok()) return;
    for (size_t i = 0; i < found.size(); ++i) {
      number((std::string(field) + "[" + std::to_string(i) + "]").c_str(), found[i], expected[i]);
    }
  }
  Status status() const { return status_; }

 private:
  std::string where_;
  Status status_;
};

std::string hex(const std::array<uint8_t, 32>& bytes) {
  if (std::ranges::all_of(bytes, [](uint8_t b) { return b == 0; })) return "none";
  std::string text;
  for (const uint8_t b : bytes) {
    text += "0123456789abcdef"[b >> 4];
    text += "0123456789abcdef"[b & 15];
  }
  return text;
}

}  // namespace

Status check_table_header(
    const std::string& where,
    const TableHeader& header,
    const TableGeometry& wanted,
    const std::array<uint8_t, 32>& token_map_sha256) {
  const TableGeometry& g = header.geometry;
  Match match(where);
  match.number("layer", g.layer, wanted.layer);
  match.text("mix", mix_name(g.mix), mix_name(wanted.mix));
  match.text("boundary", boundary_name(g.boundary), boundary_name(wanted.boundary));
  match.number("fill_id", g.fill_id, wanted.fill_id);
  match.number("boundary_id", g.boundary_id, wanted.boundary_id);
  match.number("base", g.base, wanted.base);
  match.number("heads", g.heads, wanted.heads);
  match.list("orders", g.orders, wanted.orders);
  match.list("multipliers", g.multipliers, wanted.multipliers);
  match.list("moduli", g.moduli, wanted.moduli);
  match.list("offsets", g.offsets, wanted.offsets);
  match.number("row_width", g.row_width, wanted.row_width);
  match.number("rows", g.rows, wanted.rows);
  match.text("token-map SHA-256", hex(header.token_map_sha256), hex(token_map_sha256));
  return match.status();
}

Status check_table_file(
    const TableFile& file,
    const TableGeometry& wanted,
    const std::array<uint8_t, 32>& token_map_sha256) {
  return check_table_header(file.path(), file.header(), wanted, token_map_sha256);
}

}  // namespace engram::memory
