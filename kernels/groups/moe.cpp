// Entry points of ops/moe.h.
#include "kernels/groups/entry.h"
#include "kernels/groups/list.h"

// After entry.h, which chooses the implementation of the tile layer.
#include "kernels/ops/moe.h"

FAULTLINE_ENTRY(router_top_k, RouterArgs, (router(b, args)))
FAULTLINE_ENTRY(moe_sort_pairs, MoeArgs, (moe_sort(b, args)))
FAULTLINE_ENTRY(moe_gate_up_m32, MoeArgs, (moe_gate_up<32>(b, args)))
FAULTLINE_ENTRY(moe_gate_up_m64, MoeArgs, (moe_gate_up<64>(b, args)))
FAULTLINE_ENTRY(moe_down_m32, MoeArgs, (moe_down<32>(b, args)))
FAULTLINE_ENTRY(moe_down_m64, MoeArgs, (moe_down<64>(b, args)))
FAULTLINE_ENTRY(moe_combine_pairs, MoeArgs, (moe_combine(b, args)))
FAULTLINE_ENTRY(ep_reset_counts, ExchangeArgs, (ep_reset(b, args)))
FAULTLINE_ENTRY(ep_dispatch_tokens, ExchangeArgs, (ep_dispatch(b, args)))
FAULTLINE_ENTRY(ep_combine_tokens, ExchangeArgs, (ep_combine(b, args)))
FAULTLINE_TABLE(moe, FAULTLINE_KERNELS_MOE)
