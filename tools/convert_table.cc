#include "tools/convert_table.h"

#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "memory/base/byte_text.h"
#include "memory/base/checksum.h"
#include "memory/io/file.h"
#include "memory/io/file_write.h"
#include "memory/table/table_check.h"
#include "tools/progress_line.h"

namespace engram::tools {
namespace {

using memory::Result;
using memory::Status;
using memory::TableHeader;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr int64_t kMaxReportBytes = int64_t{16} << 20;

// The clock of a rate that is printed.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

Json report_json(const memory::RowErrorReport& r) {
  return {
      {"rows", r.rows},
      {"zero_rows", r.zero_rows},
      {"not_finite_rows", r.not_finite_rows},
      {"saturated", r.saturated},
      {"nmse", r.nmse},
      {"max_abs_error", r.max_abs_error},
      {"min_cosine", r.min_cosine},
      {"mean_cosine", r.mean_cosine}};
}

// What the companion says before the table has an id. `plan` names geometry, layout and extents.
Json describe(const TableJob& job, const TableHeader& plan) {
  const memory::TableGeometry& g = job.geometry;
  const Result<std::string> header = memory::encode_table_header(plan);
  ENGRAM_CHECK(header.ok());  // it was planned
  return {
      {"file", table_file_name(g.layer)},
      {"id", nullptr},
      {"source", job.source},
      {"plan", memory::hex64(memory::checksum64(
                   header.value().data(), static_cast<int64_t>(header.value().size())))},
      {"layer", g.layer},
      {"rows", g.rows},
      {"row_width", g.row_width},
      {"columns", g.columns()},
      {"codec", memory::row_codec_name(g.codec)},
      {"layout", memory::row_layout_name(plan.layout)},
      {"data_bytes", plan.data_bytes}};
}

void add_errors(const TableJob& job, int64_t table_rows, Json* companion) {
  if (!job.errors) return;
  const std::vector<memory::RowErrorReport> reports = job.errors();
  Json columns = Json::array();
  for (size_t i = 0; i + 1 < reports.size(); ++i) {
    columns.push_back(report_json(reports[i]));
    std::printf("  column %zu  %s\n", i, reports[i].text().c_str());
  }
  const memory::RowErrorReport& all = reports.back();
  std::printf("  all        %s\n", all.text().c_str());
  if (all.rows < table_rows) {
    std::printf(
        "  %lld rows of %lld: the rest was encoded before this run went on\n",
        static_cast<long long>(all.rows), static_cast<long long>(table_rows));
  }
  (*companion)["encoding_errors"] = {{"all", report_json(all)}, {"columns", columns}};
}

Status write_companion(const std::string& path, const Json& companion) {
  return memory::write_text_file(path + ".json", companion.dump(2) + "\n");
}

// True if the table is there, made from the same source by the same plan. Tidies up behind a run
// that ended between the table's rename and its own end.
Result<bool> find_done(const std::string& path, const Json& wanted) {
  const Result<std::string> text = memory::read_text_file(path + ".json", kMaxReportBytes);
  const auto file = memory::TableFile::open(path);
  if (!text.ok() || !file.ok()) return false;
  Json found = Json::parse(text.value(), nullptr, false);
  if (!found.is_object() || found.value("plan", Json()) != wanted["plan"] ||
      found.value("source", Json()) != wanted["source"]) {
    return false;
  }
  const bool unfinished = fs::exists(path + memory::kUnfinishedSuffix);
  const Json id = found.value("id", Json());
  if (id.is_null() ? unfinished : id != file.value()->header().id) return false;
  if (!unfinished) ENGRAM_RETURN_IF_ERROR(memory::TableWriter::discard(path));
  if (id.is_null()) {
    found["id"] = file.value()->header().id;
    ENGRAM_RETURN_IF_ERROR(write_companion(path, found));
  }
  return true;
}

Status make_directory(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return {};
  return memory::write_error(path, "creating the directory", error.value());
}

Status write_rows(
    TableJob* job,
    memory::TableWriter* writer,
    const ConvertOptions& options,
    const std::atomic<bool>* stop) {
  const std::string name = "layer " + std::to_string(job->geometry.layer);
  if (writer->extents_resumed() > 0) {
    std::fprintf(
        stderr, "%s: goes on with %lld of %lld extents done\n", name.c_str(),
        static_cast<long long>(writer->extents_resumed()),
        static_cast<long long>(writer->header().extents()));
  }
  std::optional<ProgressLine> line;
  memory::StreamOptions stream;
  stream.threads = options.threads;
  stream.stop = stop;
  stream.on_progress = [&](const memory::StreamProgress& p) {
    if (!line) line.emplace(name, p.bytes_total, p.bytes_resumed);
    line->update(p.bytes_done);
  };
  return memory::stream_rows(job->producer.get(), writer, stream);
}

void print_done(const std::string& path, const TableHeader& h, const std::string& id) {
  std::printf(
      "%s: %lld rows of %lld %s, %s, %s, id %s\n", path.c_str(),
      static_cast<long long>(h.geometry.rows), static_cast<long long>(h.geometry.row_width),
      memory::row_codec_name(h.geometry.codec), memory::row_layout_name(h.layout),
      memory::format_bytes(h.file_bytes()).c_str(), id.c_str());
}

Status write_table(
    TableJob* job,
    const TableHeader& plan,
    const std::string& path,
    const ConvertOptions& options,
    const std::atomic<bool>* stop) {
  memory::TableWriterOptions writing;
  writing.source = job->source;
  writing.replace = options.overwrite;
  auto writer = memory::TableWriter::create(path, plan, writing);
  if (!writer.ok()) return writer.status();
  const Stopwatch watch;
  int64_t before = 0;
  for (int64_t e = 0; e < plan.extents(); ++e) {
    if (writer.value()->written(e)) before += plan.extent_size(e);
  }
  ENGRAM_RETURN_IF_ERROR(write_rows(job, writer.value().get(), options, stop));
  Json companion = describe(*job, plan);
  add_errors(*job, plan.geometry.rows, &companion);
  ENGRAM_RETURN_IF_ERROR(write_companion(path, companion));
  const Result<std::string> id = writer.value()->finish();
  if (!id.ok()) return id.status();
  companion["id"] = id.value();
  ENGRAM_RETURN_IF_ERROR(write_companion(path, companion));
  const double seconds = watch.seconds();
  print_done(path, plan, id.value());
  std::printf(
      "  %s in %.1f s, %.2f GB/s%s\n", memory::format_bytes(plan.data_bytes - before).c_str(),
      seconds, static_cast<double>(plan.data_bytes - before) / 1e9 / seconds,
      writer.value()->direct() ? "" : ", through the page cache: O_DIRECT is refused here");
  return {};
}

}  // namespace

std::string table_file_name(int layer) {
  return "layer-" + std::to_string(layer) + ".engram-table";
}

Status convert_table(TableJob* job, const ConvertOptions& options, const std::atomic<bool>* stop) {
  if (job->prepare) ENGRAM_RETURN_IF_ERROR(job->prepare(job, options.threads, stop));
  const Result<TableHeader> plan = memory::plan_table(
      job->geometry, options.layout, options.extent_bytes, job->token_map_sha256);
  if (!plan.ok()) return plan.status();
  ENGRAM_RETURN_IF_ERROR(make_directory(options.directory));
  const std::string path =
      (fs::path(options.directory) / table_file_name(job->geometry.layer)).string();
  const Result<bool> done =
      options.overwrite ? Result<bool>(false) : find_done(path, describe(*job, plan.value()));
  if (!done.ok()) return done.status();
  if (done.value()) {
    std::printf("%s: is there already, of the same source\n", path.c_str());
  } else {
    const Status status = write_table(job, plan.value(), path, options, stop);
    if (status.code() == memory::Code::kAlreadyExists) {
      return {status.code(), status.message() + ", of another source or form; see --overwrite"};
    }
    ENGRAM_RETURN_IF_ERROR(status);
  }
  std::fflush(stdout);
  if (!options.verify) return {};
  const auto file = memory::TableFile::open(path);
  if (!file.ok()) return file.status();
  return verify_table(*file.value(), options.threads, stop, stdout);
}

Status verify_table(
    const memory::TableFile& file, int threads, const std::atomic<bool>* stop, std::FILE* to) {
  const TableHeader& h = file.header();
  const Stopwatch watch;
  Result<std::vector<Status>> corrupt = std::vector<Status>();
  {
    ProgressLine line("checking layer " + std::to_string(h.geometry.layer), h.data_bytes, 0);
    memory::TableCheckOptions check;
    check.threads = threads;
    check.stop = stop;
    check.on_progress = [&](int64_t bytes) { line.update(bytes); };
    corrupt = memory::check_table(file, check);
  }
  if (!corrupt.ok()) return corrupt.status();
  for (const Status& status : corrupt.value()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
  }
  const double seconds = watch.seconds();
  std::fprintf(
      to, "  checked %lld extents in %.1f s, %.2f GB/s: %s\n", static_cast<long long>(h.extents()),
      seconds, static_cast<double>(h.data_bytes) / 1e9 / seconds,
      corrupt.value().empty() ? "all as written" : "CORRUPT");
  if (corrupt.value().empty()) return {};
  return memory::data_loss(
      file.path() + ": " + std::to_string(corrupt.value().size()) + " of " +
      std::to_string(h.extents()) + " extents are corrupt");
}

}  // namespace engram::tools
