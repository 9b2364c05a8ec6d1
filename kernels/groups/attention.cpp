// Entry points of ops/attention.h.
#include "kernels/groups/entry.h"
#include "kernels/groups/list.h"

// After entry.h, which chooses the implementation of the tile layer.
#include "kernels/ops/attention.h"

FAULTLINE_ENTRY(mla_decode_fp8, AttentionArgs, (attention<Fp8, 16, 576, 512, true>(b, args)))
FAULTLINE_ENTRY(mla_decode_bf16, AttentionArgs, (attention<Bf16, 16, 576, 512, true>(b, args)))
FAULTLINE_ENTRY(mla_merge, AttentionArgs, (attention_merge<512>(b, args)))
FAULTLINE_ENTRY(mla_prefill_bf16, AttentionArgs, (attention<Bf16, 64, 192, 128, false>(b, args)))
FAULTLINE_ENTRY(gqa_decode_bf16, AttentionArgs, (attention<Bf16, 16, 128, 128, false>(b, args)))
FAULTLINE_ENTRY(gqa_prefill_bf16, AttentionArgs, (attention<Bf16, 64, 128, 128, false>(b, args)))
FAULTLINE_ENTRY(gqa_merge, AttentionArgs, (attention_merge<128>(b, args)))
FAULTLINE_TABLE(attention, FAULTLINE_KERNELS_ATTENTION)
