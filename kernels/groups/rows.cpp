// Entry points of ops/rows.h, ops/sample.h and ops/probe.h.
#include "kernels/groups/entry.h"
#include "kernels/groups/list.h"

// After entry.h, which chooses the implementation of the tile layer.
#include "kernels/ops/probe.h"
#include "kernels/ops/rows.h"
#include "kernels/ops/sample.h"

FAULTLINE_ENTRY(rms_norm_rows, NormArgs, (rms_norm(b, args)))
FAULTLINE_ENTRY(mla_cache_fp8, MlaCacheArgs, (mla_cache<Fp8>(b, args)))
FAULTLINE_ENTRY(mla_cache_bf16, MlaCacheArgs, (mla_cache<Bf16>(b, args)))
FAULTLINE_ENTRY(mla_concat_heads, MlaConcatArgs, (mla_concat(b, args)))
FAULTLINE_ENTRY(gqa_cache_bf16, GqaCacheArgs, (gqa_cache(b, args)))
FAULTLINE_ENTRY(embed_tokens, EmbedArgs, (embed(b, args)))
FAULTLINE_ENTRY(sample_peaks, SampleArgs, (sample_peak(b, args)))
FAULTLINE_ENTRY(sample_weights, SampleArgs, (sample_weigh(b, args)))
FAULTLINE_ENTRY(sample_candidates, SampleArgs, (sample_gather(b, args)))
FAULTLINE_ENTRY(sample_tokens, SampleArgs, (sample(b, args)))
FAULTLINE_ENTRY(copy_memory, CopyArgs, (probe_copy(b, args)))
FAULTLINE_ENTRY(busy, BusyArgs, (probe_busy(b, args)))
FAULTLINE_ENTRY(health, HealthArgs, (probe_health(b, args)))
FAULTLINE_ENTRY(store_flag, FlagArgs, (flag_store(b, args)))
FAULTLINE_ENTRY(wait_flag, FlagArgs, (flag_wait(b, args)))
FAULTLINE_TABLE(rows, FAULTLINE_KERNELS_ROWS)
