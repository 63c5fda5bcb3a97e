// The maths half of the device seam: every computation of a step, one virtual call each.
//
// Public methods are not virtual: they check the contract once for every backend, account bytes
// and flops, then call the private override. All calls enqueue on the stream and return; none
// allocates or blocks. Called by the engine thread (a rank's thread).
//
// Shape letters: T tokens of the step, S sequences, V vocabulary, D hidden size, G residual
// streams, R table rows, H n-gram columns, r row width, E = H*r, Nq query heads, Nk kv heads,
// Dh head width, I feed-forward width, w convolution taps.
//
// "act" is the activation dtype, f32 or bf16, one for the whole model. Sums are in f32. On the CPU
// a row's result depends on that row alone, bit for bit: not on T, not on its neighbours.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "memory/base/tensor.h"
#include "memory/device/device.h"

namespace engram::engine {

using memory::DType;
using memory::Stream;
using memory::View;

// Inputs and, at most, outputs that share a scale of an f8_e4m3 weight.
constexpr int64_t kScaleCols = 128;
constexpr int64_t kMaxScaleRows = 128;

// A linear layer's weight in the layout the backend likes best; written by load_rows() only.
//
// f8_e4m3 is for linear() only: element (n, k) is its code times scales[n / scale_rows][k /
// kScaleCols]. No code is NaN. Scales are device memory in plain order, whatever the layout.
struct Matrix {
  void* data = nullptr;
  int64_t rows = 0;            // N, outputs
  int64_t cols = 0;            // K, inputs
  DType dtype = DType::kBf16;  // bf16, f16, f32 or f8_e4m3
  float* scales = nullptr;     // [ceil(N / scale_rows), ceil(K / kScaleCols)], of f8_e4m3
  int64_t scale_rows = 0;      // outputs that share a scale: a power of two up to kMaxScaleRows

  bool empty() const { return data == nullptr; }
  int64_t scale_row_count() const { return (rows + scale_rows - 1) / scale_rows; }
  int64_t scale_col_count() const { return (cols + kScaleCols - 1) / kScaleCols; }
};

// The arrays of one step in device memory, uploaded from a BatchPlan. Sequences follow each other;
// the tokens of a sequence are consecutive positions.
struct Batch {
  int64_t tokens = 0;                  // T
  int64_t sequences = 0;               // S
  int64_t max_pages = 0;               // columns of page_table
  const int32_t* ids = nullptr;        // [T]
  const int32_t* positions = nullptr;  // [T]
  const int32_t* slots = nullptr;      // [T] page * page_tokens + offset: where the token's K, V go
  const int32_t* row_slots = nullptr;  // [T] staging slot of the token's n-gram rows
  const int32_t* sequence_of = nullptr;  // [T] which sequence
  const int32_t* token_begin = nullptr;  // [S+1] first token of each sequence
  const int32_t* page_table = nullptr;   // [S, max_pages] page of each page_tokens positions
  // What attention reads and computes, for its accounting; the arrays above are the device's.
  int64_t context_tokens = 0;  // positions in the cache, over the sequences
  int64_t attended = 0;        // positions that each token attends to, over the tokens
};

constexpr int kMaxHeadDim = 512;

// One layer's keys and values: [pages, Nk, page_tokens, Dh] each. Their dtype is act, or bf16 with
// f32 activations, or e4m3. A token reads its own key back as it was stored: what a token sees does
// not depend on which tokens came in the same step.
//
// e4m3: each token's key and value of each head have a scale of their own in the page, a power of
// two in one byte. So no value saturates and nothing has to be calibrated, at the price of a byte
// per Dh; as e4m3 is floating point, a finer scale would gain nothing but steps of subnormals. The
// power of two makes scaling exact: code times scale is a bf16 number, and a kernel may multiply
// before or after it sums. A head with an element that is not finite gets the scale NaN, so that
// the whole head is NaN and its codes need no look. A scale per layer from the checkpoint, as
// others have it, saturates where the checkpoint brings none.
struct KvLayer {
  void* keys = nullptr;
  void* values = nullptr;
  DType dtype = DType::kF32;
  int page_tokens = 16;
  int kv_heads = 0;
  int head_dim = 0;
  uint8_t* key_scales = nullptr;  // e4m3: [pages, Nk, page_tokens] ue8m0, see e8m0_scale_of()
  uint8_t* value_scales = nullptr;
};

// Bytes of one token's key, or value, of one head, with its scale.
inline int64_t kv_head_bytes(DType dtype, int64_t head_dim) {
  return head_dim * memory::dtype_bytes(dtype) + (dtype == DType::kF8E4m3 ? 1 : 0);
}

// One Engram layer's convolution inputs, kept for every position like keys and values:
// [pages, page_tokens, G*D], dtype act, whatever that of keys and values is: they are few, and the
// convolution adds them up without a softmax's forgiving. What lets prefix hits, preemption and any
// chunking give the same bits.
struct ConvLayer {
  void* inputs = nullptr;
  DType dtype = DType::kF32;
  int page_tokens = 16;
  int64_t width = 0;  // G*D
};

// How one row of logits becomes a token. Order: logit_bias, banned ids -> penalties ->
// temperature -> min_p -> top_k -> top_p -> draw. temperature 0: the largest logit, lowest id among
// equals, after bias and penalties. Log-probabilities are those of the raw logits.
//
// Repetition divides positive and multiplies other logits of ids in prompt or output; presence and
// frequency subtract once and once per occurrence in the output. min_p keeps ids at least that
// likely relative to the best; top_k the k best, lower ids first among equals; top_p the shortest
// run of the best, of what is left, that reaches it. Ids outside the vocabulary have no effect.
struct SampleRow {
  bool sample = true;  // false: log-probabilities only (a prompt position)
  float temperature = 1.f;
  float top_p = 1.f;
  float min_p = 0.f;
  int32_t top_k = 0;  // 0: off
  float repetition_penalty = 1.f;
  float presence_penalty = 0.f;
  float frequency_penalty = 0.f;
  uint64_t seed = 0;
  uint64_t draw_index = 0;  // how many ids the sequence drew before: the draw depends on both alone
  int32_t logprobs = -1;    // -1: none; k >= 0: the chosen id's and the k best
  int32_t target = -1;      // with sample = false: the id whose log-probability is wanted
  std::span<const std::pair<int32_t, float>> logit_bias;
  std::span<const int32_t> banned;         // ids that must not be drawn (min_tokens)
  std::span<const int32_t> prompt_ids;     // repetition penalty
  std::span<const int32_t> generated_ids;  // all three penalties
  // generated_ids lacks the newest id, which the host does not know: it is SampledIds::before.
  bool newest_on_device = false;
};

// Ids in device memory, an entry per row of logits; null: none.
struct SampledIds {
  const int32_t* before = nullptr;  // the newest id of rows that are newest_on_device
  int32_t* now = nullptr;           // gets the id that is drawn; -1 where none is
};

// Ids that sample() drew, on their way to where the next step reads them, all in device memory. A
// token of the step is the id that row from[t] of `sampled` has, unless from[t] is below zero.
struct SampledFeed {
  int64_t tokens = 0;                // T
  const int32_t* from = nullptr;     // [T]
  const int32_t* sampled = nullptr;  // as SampledIds::now
  int32_t* ids = nullptr;            // [T] gets the id; 0 for -1, whose row has failed
  // What n-gram rows are hashed from (memory/table/row_hash.h); null: no rows.
  int32_t* windows = nullptr;          // [T, window], the last of which gets canonical[id]
  const int32_t* canonical = nullptr;  // [V]
  int64_t window = 0;
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0.f;
};

struct SampleResult {
  int32_t id = -1;
  // false: the row held a NaN, +inf or only -inf, or had only banned ids; no id was drawn.
  bool finite = true;
  float logprob = 0.f;  // of id (or target), if asked for
  int32_t rank = 0;     // 1 = most likely
  std::vector<TokenLogprob> top;
};

struct OpStats {
  const char* name = "";
  int64_t calls = 0;
  int64_t bytes = 0;  // that must be moved at least: weights, cache, inputs, outputs
  int64_t flops = 0;
};

enum class Op : uint8_t {
  kEmbed,
  kLinear,
  kRmsNorm,
  kAddRmsNorm,
  kAdd,
  kRopeAngles,
  kRopeAppend,
  kAttention,
  kSiluMul,
  kGatherRows,
  kEngramGate,
  kShortConv,
  kFeedSampled,
  kSample,
  kCount,
};

// What becomes of a call. The work of a step that was recorded is enqueued once, to be recorded,
// and counted with every replay, with the numbers of the step then run.
enum class OpCalls : uint8_t { kEnqueuedAndCounted, kOnlyEnqueued, kOnlyCounted };

class Ops {
 public:
  virtual ~Ops() = default;

  // Bytes of a Matrix of that shape in this backend's layout.
  virtual int64_t matrix_bytes(DType dtype, int64_t rows, int64_t cols) const = 0;
  // Writes `source` [n, K] (host memory, dtype of the matrix) as the rows [first, first + n).
  // Synchronous; for start-up. Rows never written are zero.
  void load_rows(const Matrix& matrix, int64_t first, View source);

  // out[t] = row ids[t] of the table.   table [V, D]; out [T, D] act.  ids outside 0..V-1: a bug
  void embed(Stream& stream, const Matrix& table, const Batch& batch, View out);

  // y = x W^T + bias.  x [T, K] act, w [N, K], bias [1, N] f32 or empty, y [T, N] act or f32.
  // y may not overlap x. An f8_e4m3 weight is exact but where a backend says otherwise.
  void linear(Stream& stream, View x, const Matrix& w, View bias, View y);

  // y = x / rms(x) * weight, each row alone.  x, y [T, D] act, y may be x; weight [1, D] f32.
  // eps is added to the mean square. Source: Zhang & Sennrich 2019, "RMSNorm".
  void rms_norm(Stream& stream, View x, View weight, float eps, View y);

  // h += x, then y = rms_norm(h).  h, x, y [T, D] act; y may be x.
  void add_rms_norm(Stream& stream, View h, View x, View weight, float eps, View y);

  // h += x.  [T, D] act.
  void add(Stream& stream, View h, View x);

  // angles[t] = scale * (cos, sin) of positions[t] * frequencies[i], first all cosines, then all
  // sines.  frequencies [1, Dh/2] f64; angles [T, Dh] f32. Computed in f64.
  void rope_angles(Stream& stream, const Batch& batch, View frequencies, double scale, View angles);

  // Per token: q and k heads of qkv are normalised (if q_norm is not empty; weights [1, Dh] f32),
  // rotated by half-split rotation ("NeoX"), q in place, k and v written to the cache.
  //   qkv [T, (Nq + 2 Nk) * Dh] act
  void rope_append(
      Stream& stream,
      const Batch& batch,
      View qkv,
      View q_norm,
      View k_norm,
      float eps,
      View angles,
      const KvLayer& kv);

  // Causal attention of each token over its sequence's positions 0..positions[t] in the cache.
  //   q [T, Nq * Dh] act (may be a column range of qkv); out [T, Nq * Dh] act
  //   Dh even, at most kMaxHeadDim
  void attention(
      Stream& stream, const Batch& batch, View q, const KvLayer& kv, float scale, View out);

  // y = silu(gate) * up.  gate_up [T, 2I] act: gate columns, then up columns; y [T, I] act.
  void silu_mul(Stream& stream, View gate_up, View y);

  // out[i] = x[rows[i]].  x [any, C], out [n, C], equal dtypes; rows [n] device memory.
  void gather_rows(Stream& stream, View x, const int32_t* rows, View out);

  // h += pending, unless that is empty; s = <rms_norm(key), rms_norm(h)> / sqrt(D); gate =
  // sigmoid(sign(s) sqrt(max(|s|, 1e-6))), 0.5 at s = 0; u = gate * value. Per residual stream g.
  //   key [T, G*D] act, value [T, D] act, h, pending [T, G*D] act, key_norm, query_norm [G, D]
  //   f32, gates [T, G] f32, u [T, G*D] act
  // Source: Engram paper section 2.3 and demo (signed square root).
  void engram_gate(
      Stream& stream,
      View key,
      View value,
      View h,
      View pending,
      View key_norm,
      View query_norm,
      float eps,
      View gates,
      View u);

  // q = rms_norm(u) per residual stream, written to the conv layer; y_c(t) = sum_j conv[c, j] *
  // q_c(t - (w-1-j) * dilation), zeros before position 0; h += u + silu(y).
  //   u, h [T, G*D] act; norm [G, D] f32; conv [G*D, w] f32
  void short_conv(
      Stream& stream,
      const Batch& batch,
      View u,
      View norm,
      float eps,
      View conv,
      int dilation,
      const ConvLayer& layer,
      View h);

  // The first work of a step whose ids are sampled by the step before it: see SampledFeed.
  void feed_sampled(Stream& stream, const SampledFeed& feed);

  // One result per row of logits [n, V] f32, which a backend may change meanwhile, but leaves as
  // they were. rows and results stay alive until the stream has passed; results has n entries, and
  // they are there once the stream has passed and deliver_samples() was called. What rows refer to
  // may go before the stream has passed if a backend copies_rows().
  void sample(
      Stream& stream,
      View logits,
      std::span<const SampleRow> rows,
      std::span<SampleResult> results,
      const SampledIds& ids = {});
  virtual bool copies_rows() const = 0;
  // Writes the results of every sample() that the stream has passed. So no work of the host stands
  // between one step and the next in the stream.
  virtual void deliver_samples() = 0;

  // Of the calls from now on.
  void set_calls(OpCalls calls) { calls_ = calls; }
  // Since the start, by op. Engine thread.
  const std::array<OpStats, static_cast<size_t>(Op::kCount)>& stats() const { return stats_; }

 protected:
  Ops();

 private:
  virtual void do_load_rows(const Matrix& matrix, int64_t first, View source) = 0;
  virtual void do_embed(Stream&, const Matrix& table, const Batch& batch, View out) = 0;
  virtual void do_linear(Stream&, View x, const Matrix& w, View bias, View y) = 0;
  virtual void do_rms_norm(Stream&, View x, View weight, float eps, View y) = 0;
  virtual void do_add_rms_norm(Stream&, View h, View x, View weight, float eps, View y) = 0;
  virtual void do_add(Stream&, View h, View x) = 0;
  virtual void do_rope_angles(
      Stream&, const Batch& batch, View frequencies, double scale, View angles) = 0;
  virtual void do_rope_append(
      Stream&,
      const Batch& batch,
      View qkv,
      View q_norm,
      View k_norm,
      float eps,
      View angles,
      const KvLayer& kv) = 0;
  virtual void do_attention(
      Stream&, const Batch& batch, View q, const KvLayer& kv, float scale, View out) = 0;
  virtual void do_silu_mul(Stream&, View gate_up, View y) = 0;
  virtual void do_gather_rows(Stream&, View x, const int32_t* rows, View out) = 0;
  virtual void do_engram_gate(
      Stream&,
      View key,
      View value,
      View h,
      View pending,
      View key_norm,
      View query_norm,
      float eps,
      View gates,
      View u) = 0;
  virtual void do_short_conv(
      Stream&,
      const Batch& batch,
      View u,
      View norm,
      float eps,
      View conv,
      int dilation,
      const ConvLayer& layer,
      View h) = 0;
  virtual void do_feed_sampled(Stream&, const SampledFeed& feed) = 0;
  virtual void do_sample(
      Stream&,
      View logits,
      std::span<const SampleRow> rows,
      std::span<SampleResult> results,
      const SampledIds& ids) = 0;

  // Whether the call is to be enqueued.
  [[nodiscard]] bool account(Op op, int64_t bytes, int64_t flops);

  OpCalls calls_ = OpCalls::kEnqueuedAndCounted;
  std::array<OpStats, static_cast<size_t>(Op::kCount)> stats_;
};

// Upper bounds of one step, for the scratch memory of a backend. All are checked per call.
struct OpsLimits {
  int64_t max_tokens = 0;    // T
  int64_t max_cols = 0;      // largest K of any linear layer
  int64_t max_rows = 0;      // largest N
  int64_t max_context = 0;   // positions of one sequence
  bool fp8_weights = false;  // whether linear() will meet f8_e4m3
  // CUDA, where the code is for compute capability 9.0 or later: a kernel is started while the one
  // before it still runs, and waits for it (programmatic dependent launch).
  bool early_starts = true;
};

// The CPU backend. RESOURCE_EXHAUSTED when scratch memory cannot be had.
memory::Result<std::unique_ptr<Ops>> make_cpu_ops(memory::Device& device, const OpsLimits& limits);
// The CUDA backend, of a CUDA device; in builds WITH_CUDA. RESOURCE_EXHAUSTED as above,
// FAILED_PRECONDITION without the libraries of CUDA.
memory::Result<std::unique_ptr<Ops>> make_cuda_ops(memory::Device& device, const OpsLimits& limits);

}  // namespace engram::engine
