// engram inspect: what a table file says about itself, and whether its bytes are what was written.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "memory/base/byte_text.h"
#include "memory/table/table_file.h"
#include "tools/command.h"
#include "tools/convert_table.h"
#include "tools/interrupt.h"

namespace engram::tools {
namespace {

using memory::TableGeometry;
using memory::TableHeader;
using Json = nlohmann::ordered_json;

struct InspectArguments {
  std::string table;
  bool json = false;
  bool check = false;
  int threads = 4;
};

std::string sha_text(const TableHeader& h) {
  std::string text;
  for (const uint8_t byte : h.token_map_sha256) {
    text.push_back("0123456789abcdef"[byte >> 4]);
    text.push_back("0123456789abcdef"[byte & 15]);
  }
  return text;
}

Json header_json(const TableHeader& h) {
  const TableGeometry& g = h.geometry;
  return {
      {"id", h.id},
      {"layer", g.layer},
      {"mix", memory::mix_name(g.mix)},
      {"boundary", memory::boundary_name(g.boundary)},
      {"fill_id", g.fill_id},
      {"boundary_id", g.boundary_id},
      {"base", g.base},
      {"orders", g.orders},
      {"heads", g.heads},
      {"multipliers", g.multipliers},
      {"moduli", g.moduli},
      {"offsets", g.offsets},
      {"rows", g.rows},
      {"row_width", g.row_width},
      {"codec", memory::row_codec_name(g.codec)},
      {"tensor_scale", g.tensor_scale},
      {"group", g.group},
      {"value_bytes", g.value_bytes()},
      {"scale_bytes", g.scale_bytes()},
      {"layout", memory::row_layout_name(h.layout)},
      {"value_stride", h.value_stride},
      {"scale_stride", h.scale_stride},
      {"values_at", h.values_at},
      {"scales_at", h.scales_at},
      {"data_offset", h.data_offset},
      {"data_bytes", h.data_bytes},
      {"extent_bytes", h.extent_bytes},
      {"extents", h.extents()},
      {"checksums_offset", h.checksums_offset()},
      {"file_bytes", h.file_bytes()},
      {"token_map_sha256", sha_text(h)}};
}

void print_header(const std::string& path, const TableHeader& h) {
  const TableGeometry& g = h.geometry;
  const auto wide = [](int64_t value) { return static_cast<long long>(value); };
  std::printf("file        %s\n", path.c_str());
  std::printf("id          %s\n", h.id.c_str());
  std::printf("layer       %d\n", g.layer);
  std::string orders;
  for (const int order : g.orders) {
    orders.append(orders.empty() ? "" : ", ").append(std::to_string(order));
  }
  std::printf(
      "columns     %d: orders %s, %d heads each, %s, boundary %s, fill id %lld\n", g.columns(),
      orders.c_str(), g.heads, memory::mix_name(g.mix), memory::boundary_name(g.boundary),
      wide(g.fill_id));
  std::printf(
      "moduli      %lld .. %lld\n", wide(*std::min_element(g.moduli.begin(), g.moduli.end())),
      wide(*std::max_element(g.moduli.begin(), g.moduli.end())));
  std::printf(
      "rows        %lld of %lld %s: %lld + %lld bytes, %.3g parameters\n", wide(g.rows),
      wide(g.row_width), memory::row_codec_name(g.codec), wide(g.value_bytes()),
      wide(g.scale_bytes()), static_cast<double>(g.rows) * static_cast<double>(g.row_width));
  std::printf(
      "layout      %s: values every %lld bytes from %lld, scales every %lld from %lld\n",
      memory::row_layout_name(h.layout), wide(h.value_stride), wide(h.values_at),
      wide(h.scale_stride), wide(h.scales_at));
  std::printf(
      "data        %s from byte %lld, %lld extents of %s\n",
      memory::format_bytes(h.data_bytes).c_str(), wide(h.data_offset), wide(h.extents()),
      memory::format_bytes(h.extent_bytes).c_str());
  const std::string sha = sha_text(h);
  const bool none = sha.find_first_not_of('0') == std::string::npos;
  std::printf("token map   %s\n", none ? "none" : ("SHA-256 " + sha).c_str());
}

int inspect(const InspectArguments& a) {
  const auto file = memory::TableFile::open(a.table);
  memory::Status status = file.status();
  if (file.ok()) {
    if (a.json) {
      std::printf("%s\n", header_json(file.value()->header()).dump(2).c_str());
    } else {
      print_header(a.table, file.value()->header());
    }
    std::fflush(stdout);
    if (a.check) {
      status = verify_table(*file.value(), a.threads, watch_interrupts(), a.json ? stderr : stdout);
    }
  }
  if (status.ok()) return kDone;
  std::fprintf(stderr, "engram: %s\n", status.to_string().c_str());
  return status.code() == memory::Code::kCancelled ? kInterrupted : kFailed;
}

}  // namespace

void add_inspect_command(CLI::App& app, Invocation* invocation) {
  CLI::App* command =
      app.add_subcommand("inspect", "Print the header of a table file, and check its bytes");
  auto a = std::make_shared<InspectArguments>();
  a->threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 4u, 16u));
  command->add_option("--table", a->table, "Table file")->required();
  command->add_flag("--json", a->json, "The header as JSON");
  command->add_flag("--check", a->check, "Read everything and compare all checksums");
  command->add_option("--io-threads", a->threads, "Each holds one extent")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->callback([a, invocation] { invocation->run = [a] { return inspect(*a); }; });
}

}  // namespace engram::tools
