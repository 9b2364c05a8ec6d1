// Every kernel: entry name and argument struct. Groups are compiled separately, so that a build uses all cores.
#pragma once

#include "kernels/ops/attention_args.h"
#include "kernels/ops/gemm_args.h"
#include "kernels/ops/moe_args.h"
#include "kernels/ops/rows_args.h"

#define FAULTLINE_KERNELS_GEMM(X)   \
  X(gemm_fp8_m32, GemmArgs)         \
  X(gemm_fp8_m64, GemmArgs)         \
  X(gemm_fp8_m128, GemmArgs)        \
  X(gemm_fp8_reduce, GemmArgs)      \
  X(gemm_fp8_blocks_m32, GemmArgs)  \
  X(gemm_fp8_blocks_m64, GemmArgs)  \
  X(gemm_fp8_blocks_m128, GemmArgs) \
  X(gemm_plain_reduce, GemmArgs)    \
  X(gemm_bf16_m32, GemmArgs)        \
  X(gemm_bf16_m64, GemmArgs)        \
  X(gemm_bf16_m128, GemmArgs)       \
  X(quantize_rows, QuantizeArgs)

#define FAULTLINE_KERNELS_ATTENTION(X) \
  X(mla_decode_fp8, AttentionArgs)     \
  X(mla_decode_bf16, AttentionArgs)    \
  X(mla_merge, AttentionArgs)          \
  X(mla_prefill_bf16, AttentionArgs)   \
  X(gqa_decode_bf16, AttentionArgs)    \
  X(gqa_prefill_bf16, AttentionArgs)   \
  X(gqa_merge, AttentionArgs)

#define FAULTLINE_KERNELS_MOE(X)      \
  X(router_top_k, RouterArgs)         \
  X(moe_sort_pairs, MoeArgs)          \
  X(moe_gate_up_m32, MoeArgs)         \
  X(moe_gate_up_m64, MoeArgs)         \
  X(moe_down_m32, MoeArgs)            \
  X(moe_down_m64, MoeArgs)            \
  X(moe_combine_pairs, MoeArgs)       \
  X(ep_reset_counts, ExchangeArgs)    \
  X(ep_dispatch_tokens, ExchangeArgs) \
  X(ep_combine_tokens, ExchangeArgs)

#define FAULTLINE_KERNELS_ROWS(X)    \
  X(rms_norm_rows, NormArgs)         \
  X(mla_cache_fp8, MlaCacheArgs)     \
  X(mla_cache_bf16, MlaCacheArgs)    \
  X(mla_concat_heads, MlaConcatArgs) \
  X(gqa_cache_bf16, GqaCacheArgs)    \
  X(embed_tokens, EmbedArgs)         \
  X(sample_peaks, SampleArgs)        \
  X(sample_weights, SampleArgs)      \
  X(sample_candidates, SampleArgs)   \
  X(sample_tokens, SampleArgs)       \
  X(copy_memory, CopyArgs)           \
  X(busy, BusyArgs)                  \
  X(health, HealthArgs)              \
  X(store_flag, FlagArgs)            \
  X(wait_flag, FlagArgs)

#define FAULTLINE_KERNELS_ALL(X) \
  FAULTLINE_KERNELS_GEMM(X)      \
  FAULTLINE_KERNELS_ATTENTION(X) \
  FAULTLINE_KERNELS_MOE(X)       \
  FAULTLINE_KERNELS_ROWS(X)
