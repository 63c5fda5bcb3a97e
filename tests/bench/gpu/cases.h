// The groups of cases of gpu_bench, a function each. Each takes the memory it needs and leaves
// none.
#pragma once

#include "tests/bench/gpu/figures.h"

namespace engram::bench::gpu {

// What the machine can do: memory, copy engines, reads of host memory, products.
void run_limits(Figures& figures, const Options& options);
// Linear layers of Qwen3-4B and 8B, few tokens and many.
void run_linear(Figures& figures, const Options& options);
// Attention of Qwen3's shape (32 heads, 8 of keys, 128 wide): decode over contexts, prompts.
void run_attention(Figures& figures, const Options& options);
// Rows of a table in host memory through the product's kernel, and the latency of one token's.
void run_gather(Figures& figures, const Options& options);
// The Engram layer's own kernels, norms and SwiGLU.
void run_engram(Figures& figures, const Options& options);
// Sampling of 1 to 64 rows of 151936 logits.
void run_sampling(Figures& figures, const Options& options);
// Whole models through the engine, weights made up: decode, prefill, what Engram costs.
void run_engine(Figures& figures, const Options& options);

}  // namespace engram::bench::gpu
