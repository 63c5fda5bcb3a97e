// What goes into a Prefetch and comes out of it: ranges of tokens whose rows are wanted, tickets of
// rows on their way, and what was fetched for whom.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/sched/row_set.h"
#include "engine/sched/step_rows.h"
#include "memory/base/status.h"

namespace engram::engine {

// prefetch: on the side stream. sync: in the compute stream itself, so that all of it is exposed.
// skip: not at all; there are no tickets then. zero: not at all either, but there are tickets, for
// staging that holds zeros: the module computes, and nothing is hashed, read or waited for.
enum class FetchMode { kPrefetch, kSync, kSkip, kZero };

// "prefetch", "sync", "skip", "zero"; INVALID_ARGUMENT names them.
memory::Result<FetchMode> fetch_mode(const std::string& name);

// Rows on their way. Redeemed exactly once: a dropped live ticket is a step that did not wait.
class [[nodiscard]] Ticket {
 public:
  explicit Ticket(const StagedRows& rows) : rows_(rows) {}
  Ticket(Ticket&& other) noexcept : rows_(other.rows_), live_(std::exchange(other.live_, false)) {}
  Ticket& operator=(Ticket&&) = delete;
  ~Ticket() { ENGRAM_CHECK(!live_); }

  StagedRows redeem() {
    ENGRAM_CHECK(live_);
    live_ = false;
    return rows_;
  }

 private:
  StagedRows rows_;
  bool live_ = true;
};

struct PrefetchLimits {
  int64_t max_num_batched_tokens = 0;
  int64_t max_num_seqs = 0;
};

// Tokens [begin, end) of a sequence whose rows are wanted.
struct FetchRange {
  uint64_t sequence = 0;
  std::span<const int32_t> tokens;  // all known tokens of the sequence, from position 0
  int64_t begin = 0;
  int64_t end = 0;
};

// A sequence of the step being run that samples its next token there.
struct SamplingSequence {
  uint64_t sequence = 0;
  std::span<const int32_t> tokens;  // all known ones, as above
  const int32_t* id = nullptr;      // where the compute stream writes the sampled one
};

// Traffic of one request.
struct FetchUsage {
  int64_t rows = 0;
  int64_t bytes = 0;
  double hash_ns = 0;
  double gather_ns = 0;
  double exposed_wait_ns = 0;
  RowSet unique;  // key: layer index, row id
};

// A sequence of the step that read a missing row.
struct MissingRows {
  uint64_t sequence = 0;
  memory::Status status;       // DATA_LOSS; names layer, table and reason
  bool fetched_ahead = false;  // no fetch was made for this very step: worth another step
};

struct StepFetch {
  int64_t exposed_wait_ns = 0;
  std::vector<MissingRows> missing;  // in the order of the plan
};

// How the rows of one table are fetched.
struct GatherReport {
  int layer = 0;       // block index
  std::string choice;  // "loads; from 23 tokens bulk"
  std::string times;   // what was measured, see gather_times_text(); empty: nothing
};

struct PrefetchStats {
  struct Layer {
    int layer = 0;  // block index
    int64_t rows = 0;
    int64_t unique_rows = 0;  // distinct within each fetch
    int64_t bytes = 0;
    std::optional<int64_t> gather_ns;        // none: the device gathers, and does not time it
    std::optional<int64_t> exposed_wait_ns;  // none: the device does not time waits
    int64_t failed_tokens = 0;               // with a row that could not be read
  };
  int64_t hash_ns = 0;
  int64_t fetches = 0;
  int64_t late_tokens = 0;     // fetched only when their step was planned
  int64_t early_tokens = 0;    // see fetch_when_sampled()
  int64_t self_fed_steps = 0;  // see leave_decodes_to()
  std::vector<Layer> layers;
};

}  // namespace engram::engine
