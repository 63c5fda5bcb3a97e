// Which n-gram rows are fetched when: hashes tokens on the host, lets a side stream gather their
// rows into staging memory, and hands the model one Ticket per Engram layer.
//
// Every token whose rows are fetched has a staging slot, the same in all Engram layers. Decode
// tokens are fetched right after they are sampled, prompts one chunk ahead of the step being run;
// what a step needs and nobody fetched yet is fetched when it is planned. The side stream is one
// FIFO; within a fetch the layer that is reached first comes first. A few rows of host memory that
// the next step needs are gathered by the compute stream instead, ahead of the step: it idles while
// the host prepares that, and no other thread is woken, whose core the layers would miss. It even
// hashes them, as soon as it has sampled their tokens, see fetch_when_sampled(). A slot is free
// again when the step that read it is committed, or when its token is no longer expected to run.
//
// A gather may fail. The tokens it could not serve are known once their step was run: commit()
// names their sequences, whose results mean nothing. Rows fetched ahead of their step are fetched a
// second time with it when the failure is known by then.
//
// Tokens of a decode step, fetched when they were sampled, have the first slots, in the order of
// sampling, which mostly is that of the step: work that was recorded finds them there every step.
// Or the decode steps gather their rows themselves, see leave_decodes_to(): nothing is fetched for
// them then, and the host hashes their tokens for the statistics only, while the device is busy.
//
// One thread (the engine's); the streams' threads gather.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "engine/model/ngram.h"
#include "engine/sched/batch_plan.h"
#include "engine/sched/fetch_types.h"
#include "engine/sched/gather_choice.h"
#include "engine/sched/row_verifier.h"
#include "engine/sched/slot_pool.h"
#include "engine/sched/staged_tokens.h"
#include "engine/sched/step_rows.h"
#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/device/device_cpu.h"
#include "memory/table/distinct_rows.h"
#include "memory/table/row_decode.h"
#include "memory/table/row_store.h"

namespace engram::engine {

class Prefetch {
 public:
  // Stores, token map and streams outlive the object. `compute` is the stream of the steps: nothing
  // of a step is enqueued there between fetch_when_sampled() or fetch_sampled() and tickets().
  // RESOURCE_EXHAUSTED when the staging memory cannot be had. What starts with kSkip has no staging
  // and stays with it.
  static memory::Result<std::unique_ptr<Prefetch>> make(
      memory::Device& device,
      memory::Stream& compute,
      std::span<const std::unique_ptr<memory::RowStore>> stores,
      const TokenMap& token_map,
      memory::DType act,
      FetchMode mode,
      const PrefetchLimits& limits);
  ~Prefetch();

  // From now on the device itself decodes, by `decode`, the rows of tables whose memory it reads;
  // nobody times that. Once, before the first fetch. RESOURCE_EXHAUSTED when the pinned memory
  // cannot be had. REQUIRES: a device whose buffers the host does not read.
  memory::Status decode_on_device(memory::EnqueueDecode decode);
  // After that: fetches go `always` this way, where that is possible; without it by what is fastest
  // for their number of tokens, measured now with random rows for a fraction of a second per table.
  // One report for each table whose memory the device reads. REQUIRES: no sequence is known.
  std::vector<GatherReport> choose_gathers(std::optional<GatherWay> always);

  // After both: decode steps gather their rows by `steps`, which windows() says for each step, as
  // long as rows are prefetched, `steps` serves their number of tokens, and no lookup is verified
  // or refused (use_verifier(), quarantine()). `steps` outlives the object.
  void leave_decodes_to(StepRows* steps);

  // Changes how rows are fetched. FAILED_PRECONDITION when that needs staging and there is none.
  // REQUIRES: no sequence is known, no step is being run.
  memory::Status set_mode(FetchMode mode);
  // Whether steps get tickets.
  bool has_tickets() const { return !layers_.empty() && mode_ != FetchMode::kSkip; }

  // Whether usage() says how long gathers take, and whether it and stats() say how long steps stand
  // still for them.
  bool times_gathers() const;
  bool times_waits() const { return device_.times_waits(); }

  int64_t slots() const { return slots_; }
  int64_t free_slots() const { return free_.free(); }
  int64_t staging_bytes() const;

  // A sequence begins; its traffic is counted for the request.
  void add(uint64_t sequence, uint64_t request);
  // Frees the slots of a sequence that lost its pages; it stays known.
  void drop(uint64_t sequence);
  // The sequence ends. REQUIRES: no step with it is being run.
  void forget(uint64_t sequence);

  // Prompt tokens expected to run next, in the order of service. Slots of tokens that are expected
  // no more are freed; the rest is fetched as far as there are slots.
  void look_ahead(std::span<const FetchRange> expected);
  // Tokens that the step being run will sample, in its order; after look_ahead(), with the step
  // enqueued. If they need a few rows of host memory only, the compute stream fetches them as soon
  // as they are sampled, while the host learns of them, and fetch_sampled() finds them on their
  // way. What they need beyond that was fetched in vain; it is not counted. The ids stay where they
  // are until the next step is committed.
  void fetch_when_sampled(std::span<const SamplingSequence> sequences);
  // Tokens just sampled, one per sequence at most. Once after each step, if with none. If they are
  // in a step ahead already, nothing is fetched.
  void fetch_sampled(std::span<const FetchRange> ranges);

  // Rows come from these stores from now on: waits for what is on its way from the old ones, which
  // are not used afterwards, and forgets what was fetched ahead. Returns the number of tokens
  // forgotten. REQUIRES: no step is being run; the tables differ in rows and codec only.
  int64_t use_stores(std::span<const std::unique_ptr<memory::RowStore>> stores);

  // From now on `verifier` (null: nobody) samples the lookups. Returns when no gather knows the one
  // before. Outlives its use here.
  void use_verifier(RowVerifier* verifier);
  // The row of these tables is not to be trusted: tokens that need it are as if it could not be
  // read, until other stores are used. Returns the requests that read it.
  std::vector<uint64_t> quarantine(size_t table, int64_t row, const memory::Status& status);

  // Whether a step of so many tokens, ahead of the one being run, may be prepared: if neither needs
  // anything that the host would have to fetch.
  bool may_run_ahead(int64_t tokens) const;
  // Fetches what the plan needs and nobody fetched; the slots belong to the step from now on.
  // REQUIRES: no step is being run, or one, and the plan is ahead of it and may_run_ahead().
  //   tokens_of  all known tokens of plan.sequences[i]
  // Returns the staging slot of each token [T]; empty with kSkip. Valid until the next call.
  std::span<const int32_t> prepare(
      const BatchPlan& plan, std::span<const std::span<const int32_t>> tokens_of);
  // Of the step prepared last, if it gathers its rows itself: the canonical ids each token is
  // hashed with [T, memory::kWindow], but for the last one of each where the plan is ahead; else
  // empty. Valid until the next prepare().
  std::span<const int32_t> windows() const { return windows_; }
  // One per Engram layer, in the order of the stores, for the step prepared last. Those of a step
  // that gathers its rows itself tell nothing.
  std::vector<Ticket> tickets();
  // For recorded work, once per layer: all slots, and an event that every fetch of tickets() with
  // this very event records anew. Empty with kSkip from the start.
  std::vector<StagedRows> standing_rows() const;
  // The oldest step prepared was run.
  StepFetch commit(const BatchPlan& plan);

  const FetchUsage& usage(uint64_t request) {
    count_all_fetched();
    return usage_.at(request);
  }
  void forget_usage(uint64_t request) {
    count_all_fetched();
    usage_.erase(request);
  }
  // Without what was fetched since the last look_ahead(), usage() or commit().
  PrefetchStats stats() const;
  // Returns when all fetches are done.
  void synchronize_for_test() { side_->synchronize(); }

 private:
  // What a gather could not read. Written by the gathering stream, read after its event.
  struct Failure {
    memory::Status status;
    std::vector<int32_t> tokens;  // of the fetch
  };
  // Tokens [begin, begin + tokens) of a sequence, one after the other in a fetch.
  struct Owner {
    uint64_t request = 0;
    uint64_t sequence = 0;
    std::span<const int32_t> text;  // of the sequence; valid while the fetch is being enqueued
    int64_t begin = 0;
    int64_t tokens = 0;  // 0: fetched in vain
  };
  // A lookup that is verified. The gathering stream adds what it staged.
  struct Chosen {
    int64_t token = 0;  // of the fetch
    RowSample sample;
  };
  // One gather per layer, in flight or done. Reused in turn.
  struct Fetch {
    uint64_t serial = 0;  // 0: never used
    int64_t tokens = 0;
    bool in_compute = false;  // gathered by the compute stream: no event to wait for
    bool by_step = false;     // the step gathers: row ids come when it is counted
    // The compute stream hashes: row ids are there when it is finished. And what it hashes, one
    // token of each owner: kWindow ids, the last of which it adds, and where that is.
    bool when_sampled = false;
    std::vector<int32_t> windows;
    std::vector<const int32_t*> sampled;
    int64_t while_step_ns = 0;  // the step that ran when it was enqueued, as step_begin_ns_
    int64_t hash_ns = 0;
    std::atomic<int64_t> gather_ns{0};  // written by the gathering thread
    bool for_step = false;              // for the next step, and Layer::ready tells when it is done
    std::vector<Owner> owners;
    std::vector<int32_t> slots;
    memory::Buffer device_slots;             // of a device with memory of its own: slots, pinned
    std::vector<memory::Buffer> device_ids;  // per layer: row_ids, pinned; see decode_on_device()
    std::vector<std::vector<int64_t>> row_ids;  // per layer [tokens, H]
    std::vector<Failure> failures;              // per layer
    std::vector<Chosen> chosen;
    RowVerifier* verifier = nullptr;
    std::shared_ptr<const memory::TableSet> verified;      // what `chosen` is compared with
    std::vector<std::unique_ptr<memory::Event>> gathered;  // per layer
    std::unique_ptr<memory::Event> finished;
  };
  struct Layer {
    memory::RowStore* store = nullptr;
    bool host_rows = false;  // all in host memory, and the host gathers them
    // Where the device itself reads the table's rows, one part or two; none: the host gathers.
    std::vector<memory::PlacedRows> direct;
    GatherChoice choice;  // of those
    memory::Buffer staging;
    memory::View view;
    memory::Buffer host_staging;           // of a device with memory of its own
    memory::View gathered;                 // where the host puts rows: in host_staging, else `view`
    std::unique_ptr<memory::Event> ready;  // of the newest fetch that is for_step
    // In counters_: for Stream::wait(), of the compute stream; for the spans of gathers that the
    // device does itself, in that stream or the side stream; for those of the decode steps.
    std::atomic<int64_t>* waited_ns = nullptr;
    std::atomic<int64_t>* device_gather_ns = nullptr;
    std::atomic<int64_t>* step_gather_ns = nullptr;
    std::atomic<int64_t> unique_rows{0};  // these three: written by the streams' threads
    std::atomic<int64_t> gather_ns{0};
    std::atomic<int64_t> held_up_ns{0};  // by host work in the compute stream
    int64_t rows = 0;
    int64_t bytes = 0;
    int64_t failed_tokens = 0;

    int64_t exposed_wait_ns() const { return waited_ns->load() + held_up_ns.load(); }
  };
  struct Known {
    uint64_t request = 0;
    std::vector<int32_t> canonical;
    StagedTokens staged;  // not of the step being run
  };
  struct InStep {
    StagedToken at;
    uint64_t request = 0;
  };

  // Rows of all layers together that the compute stream gathers: about what it reads in the time
  // in which it idles between two steps.
  static constexpr int64_t kRowsInCompute = 64;

  Prefetch(
      memory::Device& device, memory::Stream& compute, const TokenMap& token_map, FetchMode mode);
  memory::Status allocate_staging(Layer& layer, memory::DType act);
  void clear_staging(Layer& layer);
  bool fetches() const { return has_tickets() && mode_ != FetchMode::kZero; }
  bool fetches_ahead() const { return fetches() && mode_ == FetchMode::kPrefetch; }
  int64_t room_ahead() const;
  void free_slot(int32_t slot);
  void free_staged(Known& known, int64_t begin, int64_t end);
  void free_failed(Known& known, int64_t begin, int64_t end);
  Fetch& next_fetch();
  void canonicalize(Known& known, std::span<const int32_t> tokens) const;
  static void add_window(const Known& known, int64_t end, std::vector<int32_t>* to);
  int64_t staged_tokens(const FetchRange& range) const;
  void stage(Fetch& fetch, const FetchRange& range, int64_t most, bool apart);
  void choose_samples(Fetch& fetch);
  void choose(Fetch& fetch, size_t table, int64_t token, int column);
  void hand_over_samples(Fetch& fetch, size_t index);
  void mark_quarantined(const Fetch& fetch, size_t table, int64_t first_token);
  void drain();
  void tell_steps();
  bool left_to_step(int64_t tokens) const;
  std::span<const int32_t> leave_to_step(
      const BatchPlan& plan, std::span<const std::span<const int32_t>> tokens_of);
  bool can_hash(const Fetch& fetch) const;
  void hash_left_to_step(Fetch& fetch);
  void enqueue(Fetch& fetch);
  bool fits_in_compute(int64_t tokens) const;
  void gather_in_compute(Fetch& fetch);
  void stage_sampling(Fetch& fetch, const SamplingSequence& sampling);
  void hash_sampled(Fetch& fetch);
  void keep_sampled(std::span<const FetchRange> ranges);
  int64_t held_up_ns(const Fetch& fetch, int64_t begin_ns, int64_t end_ns) const;
  void use_store(Layer& layer, memory::RowStore& store) const;
  void find_direct(Layer& layer) const;
  void gather(Fetch& fetch, size_t layer);
  void enqueue_gather(Fetch& fetch, size_t layer);
  void count_rows(const Fetch& fetch, size_t layer);
  void count_distinct(const Fetch& fetch);
  static void leave_out_unwanted(Fetch& fetch);
  void count_fetched();
  void count_all_fetched();
  bool host_can_gather(const Layer& layer) const;
  GatherWay way_of(const Layer& layer, int64_t tokens) const;
  void enqueue_rows(memory::Stream& stream, Fetch& fetch, size_t layer, GatherWay way);
  void enqueue_direct(memory::Stream& stream, Fetch& fetch, size_t layer);
  void gather_direct(const Fetch& fetch, const Layer& layer, const std::vector<int64_t>& ids);
  void bring_over(memory::Stream& stream, const Fetch& fetch, const Layer& layer);
  double time_gather(size_t layer, GatherWay way, int64_t tokens);
  void record_gathered(memory::Stream& stream, const Fetch& fetch, size_t layer);
  void count_usage(const Fetch& fetch);
  void settle(const Fetch& fetch);
  template <typename Condition>
  void settle_if(const Condition& condition);
  void count_wait(int64_t ns);
  static bool failed(const Fetch& fetch);
  void note_failures(const Fetch& fetch);
  std::vector<MissingRows> find_missing(const BatchPlan& plan) const;

  // Constant.
  memory::Device& device_;
  memory::Stream& compute_;
  const TokenMap& token_map_;
  PrefetchLimits limits_;
  int64_t slots_ = 0;
  memory::EnqueueDecode decode_ = nullptr;
  memory::DistinctRows distinct_;                // used by the stream that fetches
  std::unique_ptr<memory::CpuWorkers> workers_;  // of a device with memory of its own
  std::vector<size_t> order_;  // layers in the order in which the model reaches them
  memory::Buffer counters_;    // pinned
  std::vector<std::unique_ptr<Layer>> layers_;
  std::unique_ptr<memory::Stream> side_;
  StepRows* steps_ = nullptr;  // null: decode steps are fetched for as others are

  // Engine thread.
  FetchMode mode_;
  std::vector<std::unique_ptr<Fetch>> ring_;
  const Fetch* on_side_ = nullptr;     // the last one of the side stream
  const Fetch* in_compute_ = nullptr;  // the last one that is in_compute
  Fetch* sampling_ = nullptr;          // when_sampled, and who wants it is not known so far
  // What they fetched is not with their requests so far: that is done while the device is busy.
  std::vector<Fetch*> uncounted_;
  // Their times are not with their requests so far, nor their failures in failed_.
  std::vector<Fetch*> unsettled_;
  uint64_t serial_ = 0;
  SlotPool free_{0};
  std::vector<uint64_t> slot_serial_;         // [slots] of the fetch that fills it; 0: free
  std::map<int32_t, memory::Status> failed_;  // slots in use whose rows are missing
  std::map<std::pair<size_t, int64_t>, memory::Status> quarantined_;  // table, row
  RowVerifier* verifier_ = nullptr;
  std::map<uint64_t, Known> known_;
  std::map<uint64_t, FetchUsage> usage_;
  std::vector<InStep> in_step_;
  std::vector<InStep> in_step_ahead_;
  std::vector<int32_t> step_slots_;
  std::vector<int32_t> windows_;
  std::vector<uint64_t> step_requests_;
  uint64_t step_serial_ = 0;  // the newest fetch of the side stream that the step reads
  uint64_t late_serial_ = 0;  // the fetch made for the step; 0: none
  // When the next step was to begin, or runs since; the compute stream's thread reads it.
  std::atomic<int64_t> step_begin_ns_{INT64_MAX};
  int64_t waited_before_ns_ = 0;
  int64_t hash_ns_ = 0;
  int64_t late_tokens_ = 0;
  int64_t early_tokens_ = 0;
  int64_t self_fed_steps_ = 0;
};

template <typename Condition>
void Prefetch::settle_if(const Condition& condition) {
  std::erase_if(unsettled_, [&](const Fetch* fetch) {
    if (!condition(*fetch)) return false;
    settle(*fetch);
    return true;
  });
}

}  // namespace engram::engine
